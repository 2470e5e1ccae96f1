/** Reasoning that a model writes into its answer between <think> and </think>, told apart while it streams. */

const OPEN = "<think>";
const CLOSE = "</think>";

/**
 * `content` as {reasoning, answer, thinking}. Only a block at the very start counts, as chat templates write it, so that
 * a text *about* the tag stays whole. Half a tag at the end is held back until the next piece decides.
 */
export function splitReasoning(content) {
  const start = content.trimStart();
  if (!start.startsWith(OPEN)) {
    const half = start !== "" && OPEN.startsWith(start);
    return {reasoning: "", answer: half ? "" : content, thinking: half};
  }
  const inner = start.slice(OPEN.length);
  const end = inner.indexOf(CLOSE);
  if (end >= 0) return {reasoning: inner.slice(0, end).trim(), answer: inner.slice(end + CLOSE.length).trimStart(), thinking: false};
  return {reasoning: withoutHalf(inner, CLOSE).trim(), answer: "", thinking: true};
}

function withoutHalf(text, tag) {
  for (let length = Math.min(tag.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(tag.slice(0, length))) return text.slice(0, -length);
  }
  return text;
}

/** The reasoning and the answer of a message, wherever the server put them. */
export function parts(node) {
  const split = node.role === "assistant" ? splitReasoning(node.content) : {reasoning: "", answer: node.content, thinking: false};
  const reasoning = [node.reasoning, split.reasoning].filter(Boolean).join("\n\n");
  const streaming = node.state === "streaming";
  return {reasoning, answer: split.answer, thinking: streaming && (split.thinking || (Boolean(node.reasoning) && split.answer === ""))};
}
