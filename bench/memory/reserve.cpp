// Prints what llama.cpp would allocate for a model: cache, recurrent state and compute buffer. Nothing
// is allocated and no weight is read (`no_alloc`), so a header with an empty body will do.
//
// reserve MODEL CONTEXT SEQUENCES KV_TYPE FLASH OUTPUTS BATCH UNIFIED DRAFT
// (context of all sequences together; with DRAFT tokens the context of the predicting layers too)
#include "ggml-backend.h"
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static void say(ggml_log_level, const char *text, void *) {
    if (strstr(text, "size =") || strstr(text, "rror")) fputs(text, stdout);
}

static ggml_type type_of(const std::string &name) {
    if (name == "q8_0") return GGML_TYPE_Q8_0;
    if (name == "q4_0") return GGML_TYPE_Q4_0;
    return GGML_TYPE_F16;
}

int main(int count, char **arguments) {
    if (count != 10) return 2;
    llama_log_set(say, nullptr);
    ggml_backend_load_all_from_path(getenv("GGML_DIR"));
    llama_model_params of_model = llama_model_default_params();
    of_model.no_alloc = true;
    of_model.use_extra_bufts = false;
    of_model.load_mode = LLAMA_LOAD_MODE_NONE;
    const int draft = atoi(arguments[9]);
    of_model.load_mtp = draft > 0;
    llama_model *model = llama_model_load_from_file(arguments[1], of_model);
    if (model == nullptr) return 1;
    llama_context_params of_context = llama_context_default_params();
    of_context.n_ctx = atoi(arguments[2]);
    of_context.n_seq_max = atoi(arguments[3]);
    of_context.type_k = of_context.type_v = type_of(arguments[4]);
    of_context.flash_attn_type =
        atoi(arguments[5]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    of_context.n_outputs_max = atoi(arguments[6]);
    of_context.n_ubatch = atoi(arguments[7]);
    of_context.n_batch = 2048;
    of_context.swa_full = false;
    of_context.kv_unified = atoi(arguments[8]);
    of_context.n_rs_seq = draft;
    llama_context *target = llama_init_from_model(model, of_context);
    if (target == nullptr || draft == 0) return target == nullptr;
    of_context.ctx_type = LLAMA_CONTEXT_TYPE_MTP;
    of_context.ctx_other = target;
    of_context.n_rs_seq = 0;
    return llama_init_from_model(model, of_context) == nullptr;
}
