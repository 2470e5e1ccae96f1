/** The server: OpenAI's chat completions, and what it cannot do said in kinds that the page has words for. */

import {events} from "./sse.js";

const KEY = "luhuo-key";

/** kind: offline | key | busy | context | model | stopping | server | request | cut. */
export class ApiError extends Error {
  constructor(kind, message = "", more = {}) {
    super(message);
    this.kind = kind;
    this.status = more.status ?? 0;
    this.retryAfter = more.retryAfter ?? 0;
  }
}

/** The API key lives as long as the tab and is never written to disk. */
export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return {"content-type": "application/json", ...(key ? {authorization: `Bearer ${key}`} : {})};
}

async function call(path, body, signal) {
  let answer;
  try {
    const options = body === undefined ? {} : {method: "POST", body: JSON.stringify(body)};
    answer = await fetch(path, {...options, headers: headers(), signal, cache: "no-store", credentials: "same-origin"});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("offline", error.message);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let told = {};
  try {
    told = (await answer.json()).error ?? {};
  } catch {
    /* a proxy's page instead of the API's JSON: the status says enough */
  }
  const message = typeof told.message === "string" ? told.message : `HTTP ${answer.status}`;
  const retryAfter = Number.parseFloat(answer.headers.get("retry-after")) || 0;
  return new ApiError(kindOf(answer.status, told.code, told.type), message, {status: answer.status, retryAfter});
}

function kindOf(status, code, type) {
  if (code === "context_length_exceeded") return "context";
  if (status === 401) return "key";
  if (status === 404 && (code === "model_not_found" || type === "model_not_found")) return "model";
  if (status === 429) return "busy";
  if (status === 503) return "stopping";
  return status >= 500 ? "server" : "request";
}

async function json(path, body, signal) {
  const answer = await call(path, body, signal);
  try {
    return await answer.json();
  } catch {
    throw new ApiError("server", "no JSON");
  }
}

/** [{id, context, parent}]: the models that the server answers with; null where it does not say. An adapter has a parent. */
export async function models() {
  const {data} = await json("/v1/models");
  if (!Array.isArray(data)) throw new ApiError("server", "no list of models");
  // A server may have embedding models too; one that does not say what its models do is asked to chat with all.
  return data.filter((one) => one.tasks?.includes("chat") ?? true).map((one) => ({id: String(one.id), context: one.max_model_len ?? one.context_length ?? one.context ?? null, parent: one.parent ?? null}));
}

/** {version, feedback}: what the page may offer. */
export async function pageConfig() {
  return json("/page/config");
}

/** How many tokens the server counts in these messages with the model's own template. */
export async function countTokens(model, messages, tools, signal) {
  const told = await json("/tokenize", {model, messages, ...(tools ? {tools} : {})}, signal);
  return Number(told.count ?? told.tokens?.length);
}

export async function sendFeedback(record) {
  await call("/feedback", record);
}

/** Stream one answer: yields the chunks of OpenAI's format. Throws `ApiError`, or an AbortError when stopped. */
export async function* chat(request, signal) {
  const answer = await call("/v1/chat/completions", {...request, stream: true, stream_options: {include_usage: true}}, signal);
  let ended = false;
  try {
    for await (const text of events(answer.body)) {
      let chunk;
      try {
        chunk = JSON.parse(text);
      } catch {
        throw new ApiError("server", "a piece of the answer is not JSON");
      }
      if (chunk.error) throw new ApiError(kindOf(500, chunk.error.code, chunk.error.type), String(chunk.error.message ?? ""));
      ended ||= Boolean(chunk.choices?.[0]?.finish_reason);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("cut", error.message);
  }
  if (!ended) throw new ApiError("cut");
}
