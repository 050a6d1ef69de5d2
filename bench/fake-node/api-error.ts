/** What a node refuses with: a status, and Ollama's own words. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

export const notFound = (model: string): ApiError =>
  new ApiError(404, `model '${model}' not found`);

/** Whoever asked has hung up: nobody reads this. */
export const cancelled = (): ApiError => new ApiError(499, 'request canceled');
