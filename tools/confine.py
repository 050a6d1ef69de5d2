"""Becomes another program, after letting go of what that one must not have.

Started by actors/mcp-gateway/adapters/confine.ts, which says how in the first argument, as JSON; the
rest is the program. Node can do none of this, and all of it has to happen after the fork:

C1  Every descriptor above 2 is closed, save those in `keep`. Nobody opens another one: this process
    has one thread.
C2  The program gets a session keyring of its own: keys of the shell that started us are not in it.
C3  `cgroups`: files that this process writes its id into, so that what it becomes is counted there.
C4  `setup`: a program that builds the world first; its end with 0 is waited for. It may change the
    root folder of this process too, so everything is imported before.
C5  `filter`: a seccomp program, in base64, loaded last. It holds for all that comes after. Where the
    kernel takes none, nothing is started, unless the start is `lenient`.
"""

import base64
import ctypes
import errno
import json
import os
import signal
import sys
import warnings  # noqa: F401  `os.execvp` imports it, which is too late in another root folder.

KEYCTL = {"x86_64": 250, "aarch64": 219}
KEYCTL_JOIN_SESSION_KEYRING = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
INSTRUCTION_BYTES = 8

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def close_all_but(keep):
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in keep:
            try:
                os.close(number)
            except OSError:
                pass  # The one with which the folder was read.


def own_keyring():
    number = KEYCTL.get(os.uname().machine)
    if number is not None:
        # Kernels without keyrings, and containers that forbid them, have none to hide either.
        libc.syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0)


def load(bits):
    program = Program(len(bits) // INSTRUCTION_BYTES, bits)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs is refused")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the seccomp filter is refused")


def main():
    how, command = json.loads(sys.argv[1]), sys.argv[2:]
    close_all_but(how["keep"])
    # Python ignores these, and what is ignored stays ignored in the next program.
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)
    for file in how["cgroups"]:
        with open(file, "w") as members:
            members.write("0")
    own_keyring()
    if how["setup"]:
        pid = os.posix_spawnp(how["setup"][0], how["setup"], os.environ)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != 0:
            sys.exit(code if code > 0 else 1)
        os.chdir(how["cwd"])
    if how["filter"]:
        try:
            load(base64.b64decode(how["filter"]))
        except OSError as error:
            if not how["lenient"]:
                raise
            os.write(2, f"started without a filter: {error}\n".encode())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {errno.errorcode.get(error.errno)}\n".encode())
        os._exit(127)


main()
