/** Every text of the arena and of the rating sheet, English and Chinese side by side. {name} is filled in. */

import {language} from "/chat/preferences.js";

const WORDS = {
  title: ["Luhuo arena", "炉火竞技场"], sheetTitle: ["Luhuo rating sheet", "炉火评分表"], name: ["Your name", "你的名字"],
  nameWhy: ["It keeps your votes together. You can go on under the same name at any time.", "用来把你的投票归在一起；任何时候都可用同一名字继续。"],
  begin: ["Begin", "开始"], as: ["You: {name}", "你：{name}"], other: ["中文", "English"], dark: ["Dark", "深色"], light: ["Light", "浅色"],
  fresh: ["New battle", "新对战"], board: ["Leaderboard", "排行榜"], keys: ["Keys", "快捷键"],
  ask: ["Ask something. Two models answer; say which answer is better, and you learn who they are.", "请提一个问题。两个模型会各自作答；选出更好的回答后，即可得知它们是谁。"],
  choose: ["Which answer is better? You may also ask on first.", "哪个回答更好？也可以先继续追问。"], writing: ["Both models are writing …", "两个模型正在作答……"], over: ["Thank you! These were the models.", "谢谢！它们是以下模型。"],
  failed: ["There are no two answers to compare.", "没有两个可供比较的回答。"], again: ["Try again", "重试"],
  side: ["Answer {side}", "回答 {side}"], you: ["You", "你"], draft: ["Your question", "你的问题"], send: ["Send", "发送"], stop: ["Stop", "停止"],
  better: ["{side} is better", "{side} 更好"], tie: ["Equally good", "一样好"], bad: ["Both bad", "都不好"], votes: ["Your vote", "你的投票"], voted: ["Your vote: {vote}. A is {a}, B is {b}.", "你的投票：{vote}。A 是 {a}，B 是 {b}。"],
  ready: ["Both answers are there.", "两个回答都已写完。"], offline: ["The server does not answer. Nothing was saved; try again.", "服务器没有响应，未保存任何内容，请重试。"], cut: ["The connection broke off.", "连接中断。"],
  noVotes: ["No vote counts yet.", "尚无有效投票。"], counted: ["{votes} votes count.", "有效票 {votes}。"], leftOut: ["Left out: {told}.", "未计入：{told}。"], identity: ["an answer names a model", "回答提到模型名"], banned: ["voter left out", "投票者被排除"],
  model: ["Model", "模型"], rank: ["Rank", "名次"], rating: ["Rating (95%)", "评分（95%）"], number: ["Votes", "票数"], rate: ["Win rate", "胜率"], pairs: ["Share of points of the row against the column (votes)", "行对列的得分率（票数）"], equal: ["At equal length and layout", "控制长度与版式"],
  more: ["more votes needed", "需更多投票"], keyA: ["A is better", "A 更好"], keyB: ["B is better", "B 更好"], keyTie: ["equally good", "一样好"], keyBad: ["both are bad", "都不好"], keyNew: ["new battle", "新对战"], keySend: ["send (Shift+Enter: new line)", "发送（Shift+Enter 换行）"],
  count: ["{done} of {total}", "{done} / {total}"], write: ["First write what you would answer. You see no other answer before.", "请先写下你自己的答案；在此之前不会看到其他回答。"], yours: ["Your answer", "你的答案"], save: ["Save", "保存"],
  rateIt: ["Rate this answer. Who wrote it is hidden.", "请为这个回答评分；作者已隐藏。"], answer: ["Answer", "回答"], reference: ["Expert's answer", "专家答案"], comment: ["Comment (not needed)", "备注（可不填）"], missing: ["Give every scale a value.", "请为每个量表选择分值。"], done: ["All is rated. Thank you!", "已全部评完，谢谢！"], prompt: ["Question", "问题"], saved: ["Saved.", "已保存。"], lowest: ["lowest", "最低"], highest: ["highest", "最高"],
};

/** The text of a key, with {name} filled in. */
export function w(key, values = {}) {
  return WORDS[key][language() === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
