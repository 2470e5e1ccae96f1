/** What the highlighter knows of each language: patterns of its pieces, in order, and its words. */

const words = (text) => new Set(text.split(" "));

const WORD = "[\\p{L}_$][\\p{L}\\p{N}_$]*";
const NUMBER = "\\b(?:0[xX][\\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\\d[\\d_]*(?:\\.\\d[\\d_]*)?(?:[eE][+-]?\\d+)?)[a-zA-Z]*\\b";
const DOUBLE = '"(?:[^"\\\\\\n]|\\\\[^])*(?:"|$)';
const SINGLE = "'(?:[^'\\\\\\n]|\\\\[^])*(?:'|$)";
const BACKTICK = "`(?:[^`\\\\]|\\\\[^])*(?:`|$(?![^]))";
const SLASHES = "\\/\\/[^\\n]*|\\/\\*(?:[^*]|\\*(?!\\/))*(?:\\*\\/|$(?![^]))";
const HASH = "#[^\\n]*";
const DASHES = "--[^\\n]*";

const c = (keywords, more = {}) => ({
  parts: {comment: SLASHES, string: `${DOUBLE}|${SINGLE}`, meta: "^[ \\t]*#[a-z]+[^\\n]*|@[A-Za-z_][\\w.]*", number: NUMBER, word: WORD},
  keywords: words(keywords), constants: words("true false null nullptr NULL nil None"), capitalTypes: true, ...more,
});

const JAVASCRIPT = "async await break case catch class const continue debugger default delete do else export extends finally for from function get if import in instanceof let new of return set static super switch this throw try typeof var void while with yield";
const TYPESCRIPT = `${JAVASCRIPT} abstract as declare enum implements interface keyof namespace private protected public readonly satisfies type`;
const C = "alignas auto break case const constexpr continue default do else enum extern for goto if inline register restrict return sizeof static struct switch typedef union volatile while";
const script = (keywords) => c(keywords, {
  parts: {comment: SLASHES, string: `${DOUBLE}|${SINGLE}|${BACKTICK}`, meta: "@[A-Za-z_][\\w.]*", number: NUMBER, word: WORD},
  constants: words("true false null undefined NaN Infinity"),
  types: words("any bigint boolean never number object string symbol unknown"),
});
const keyValue = (comment) => ({
  parts: {comment, meta: "^[ \\t]*\\[[^\\]\\n]*\\]", key: "^[ \\t]*(?:-[ \\t]+)*[\\w.\\-\"']+(?=[ \\t]*[:=])", string: `${DOUBLE}|${SINGLE}`, number: NUMBER, word: WORD},
  constants: words("true false null yes no on off"),
});

export const LANGUAGES = {
  python: {
    parts: {
      comment: HASH, string: "[rRbBfFuU]{0,2}(?:\"\"\"[^]*?(?:\"\"\"|$(?![^]))|'''[^]*?(?:'''|$(?![^]))|" + `${DOUBLE}|${SINGLE})`,
      meta: "^[ \\t]*@[\\w.]+", number: NUMBER, word: WORD,
    },
    keywords: words("and as assert async await break case class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return try type while with yield"),
    constants: words("True False None self cls"),
    types: words("bool bytes dict float frozenset int list object set str tuple"), capitalTypes: true,
  },
  javascript: script(JAVASCRIPT),
  typescript: script(TYPESCRIPT),
  json: {parts: {key: '"(?:[^"\\\\\\n]|\\\\.)*"(?=\\s*:)', string: DOUBLE, comment: SLASHES, number: `-?${NUMBER}`, word: WORD}, constants: words("true false null")},
  shell: {
    parts: {
      comment: "(?:^|(?<=\\s))#[^\\n]*", string: `"(?:[^"\\\\]|\\\\[^])*(?:"|$(?![^]))|'[^']*(?:'|$(?![^]))`,
      variable: "\\$(?:\\w+|\\{[^}\\n]*\\}|[@#?*!$-])", option: "(?<=\\s)--?[A-Za-z][\\w-]*", number: NUMBER, word: "[\\p{L}_][\\p{L}\\p{N}_-]*",
    },
    keywords: words("if then else elif fi for while until do done case esac in function return local export source set unset exit break continue sudo"),
    types: words("awk cat cd chmod cp curl docker echo find git grep ls make mkdir mv npm pip python python3 rm sed ssh tar touch wget"),
  },
  c: c(C, {types: words("bool char double float int int8_t int16_t int32_t int64_t long short signed size_t uint8_t uint16_t uint32_t uint64_t unsigned void")}),
  cpp: c(`${C} catch class concept co_await co_return co_yield decltype delete explicit final friend mutable namespace new noexcept operator override private protected public requires template this throw try typename using virtual`, {types: words("bool char double float int long short signed size_t string unsigned vector void wchar_t")}),
  java: c("abstract assert break case catch class continue default do else enum extends final finally for if implements import instanceof interface native new package permits private protected public record return sealed static super switch synchronized this throw throws transient try var volatile while yield", {types: words("boolean byte char double float int long short void")}),
  csharp: c("abstract as async await base break case catch class const continue default delegate do else enum event explicit extern finally fixed for foreach get if implicit in init interface internal is lock namespace new operator out override params partial private protected public readonly record ref return sealed set sizeof static struct switch this throw try typeof unsafe using var virtual when where while with yield", {types: words("bool byte char decimal double dynamic float int long object sbyte short string uint ulong ushort void")}),
  kotlin: c("abstract actual as break by catch class companion const constructor continue data do else enum expect final finally for fun if import in init inline inner interface internal is lateinit object open operator out override package private protected public return sealed super suspend this throw try typealias val var when where while"),
  swift: c("actor as associatedtype async await break case catch class continue default defer deinit do else enum extension fallthrough fileprivate final for func guard if import in init inout internal is lazy let mutating open operator override private protocol public repeat return self some static struct subscript super switch throw throws try typealias var weak where while"),
  go: c("break case chan const continue default defer else fallthrough for func go goto if import interface map package range return select struct switch type var", {
    parts: {comment: SLASHES, string: `${DOUBLE}|${SINGLE}|\`[^\`]*(?:\`|$(?![^]))`, number: NUMBER, word: WORD}, types: words("any bool byte complex128 error float32 float64 int int8 int16 int32 int64 rune string uint uint8 uint16 uint32 uint64 uintptr"),
  }),
  rust: c("as async await break const continue crate dyn else enum extern fn for if impl in let loop match mod move mut pub ref return self static struct super trait type unsafe use where while", {
    parts: {comment: SLASHES, string: `b?${DOUBLE}|'(?:[^'\\\\\\n]|\\\\.)'`, meta: "#!?\\[[^\\]\\n]*\\]", variable: "'[a-z_]+\\b", number: NUMBER, word: `${WORD}!?`},
    constants: words("true false None Some Ok Err Self"), types: words("bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize String Vec"),
  }),
  php: c("abstract and array as break callable case catch class clone const continue declare default do echo else elseif extends final finally fn for foreach function global if implements include instanceof interface isset list match namespace new or print private protected public readonly require require_once return static switch throw trait try unset use while yield", {
    parts: {comment: `${SLASHES}|${HASH}`, string: `${DOUBLE}|${SINGLE}`, variable: "\\$\\w+", meta: "<\\?php|\\?>", number: NUMBER, word: WORD},
  }),
  ruby: {
    parts: {comment: HASH, string: `${DOUBLE}|${SINGLE}`, variable: "@{1,2}\\w+|(?<![:\\w]):\\w+", number: NUMBER, word: `${WORD}[?!]?`},
    keywords: words("alias and begin break case class def defined? do else elsif end ensure extend for if in include module next not or private protected public raise redo require rescue retry return self super then undef unless until when while yield"),
    constants: words("true false nil"), capitalTypes: true,
  },
  lua: {
    parts: {comment: "--\\[\\[[^]*?(?:\\]\\]|$(?![^]))|" + DASHES, string: `${DOUBLE}|${SINGLE}|\\[\\[[^]*?(?:\\]\\]|$(?![^]))`, number: NUMBER, word: WORD},
    keywords: words("and break do else elseif end for function goto if in local not or repeat return then until while"), constants: words("true false nil self"),
  },
  r: {
    parts: {comment: HASH, string: `${DOUBLE}|${SINGLE}`, number: NUMBER, word: "[\\p{L}.][\\p{L}\\p{N}._]*"},
    keywords: words("break else for function if in library next repeat require return while"), constants: words("TRUE FALSE NULL NA Inf NaN"),
  },
  sql: {
    parts: {comment: `${DASHES}|\\/\\*(?:[^*]|\\*(?!\\/))*(?:\\*\\/|$(?![^]))`, string: "'(?:[^']|'')*(?:'|$(?![^]))", number: NUMBER, word: WORD}, anyCase: true,
    keywords: words("add all alter and any as asc avg between by case cast check column commit constraint count create cross database default delete desc distinct drop else end exists explain foreign from full grant group having if in index inner insert into is join key left like limit max min not null offset on or order outer over partition primary recursive references returning right rollback row select set sum table then top transaction trigger truncate union unique update using values view when where with"),
    constants: words("true false"), types: words("bigint blob boolean char date decimal double float int integer interval json jsonb numeric real serial smallint text time timestamp uuid varchar"),
  },
  html: {
    parts: {comment: "<!--[^]*?(?:-->|$(?![^]))", keyword: "<\\/?[A-Za-z][\\w:-]*|\\/?>|<![A-Za-z]+", key: "(?<=\\s)[\\w:@.-]+(?==)", string: '"[^"]*"|\'[^\'\\n]*\'', constant: "&[#\\w]+;"},
  },
  css: {
    parts: {comment: "\\/\\*(?:[^*]|\\*(?!\\/))*(?:\\*\\/|$(?![^]))", string: `${DOUBLE}|${SINGLE}`, meta: "@[\\w-]+", key: "--[\\w-]+|(?<=[{;]\\s*)[\\w-]+(?=\\s*:)", number: "#[\\da-fA-F]{3,8}\\b|-?\\d*\\.?\\d+(?:%|[a-z]+)?\\b", function: "[\\w-]+(?=\\()", type: "[.#][\\w-]+"},
  },
  yaml: keyValue("(?:^|(?<=\\s))#[^\\n]*"),
  toml: keyValue("(?:^|(?<=\\s))[#;][^\\n]*"),
  diff: {parts: {meta: "^(?:@@|diff |index |\\+\\+\\+|---)[^\\n]*", string: "^\\+[^\\n]*", deleted: "^-[^\\n]*"}},
  dockerfile: {parts: {comment: "^[ \\t]*#[^\\n]*", keyword: "^[A-Z]+(?=\\s)", string: `${DOUBLE}|${SINGLE}`, variable: "\\$(?:\\w+|\\{[^}\\n]*\\})", number: NUMBER}},
  makefile: {parts: {comment: HASH, variable: "\\$[({][^)}\\n]*[)}]|\\$[@<^?*]", key: "^[\\w.%/-]+(?=\\s*[:?+]?=)", function: "^[\\w.%/ -]+(?=:)", string: `${DOUBLE}|${SINGLE}`}},
  latex: {parts: {comment: "%[^\\n]*", keyword: "\\\\(?:[A-Za-z]+\\*?|.)", constant: "[{}$&^_]"}},
};

/** Other names under which models write the same languages. */
export const NAMES = {
  py: "python", python3: "python", ipython: "python", js: "javascript", jsx: "javascript", mjs: "javascript", node: "javascript",
  ts: "typescript", tsx: "typescript", jsonc: "json", json5: "json", jsonl: "json", sh: "shell", bash: "shell", zsh: "shell",
  console: "shell", "shell-session": "shell", h: "c", "c++": "cpp", cc: "cpp", hpp: "cpp", cuda: "cpp", cs: "csharp", "c#": "csharp",
  kt: "kotlin", golang: "go", rs: "rust", rb: "ruby", xml: "html", svg: "html", vue: "html", htm: "html", scss: "css", less: "css",
  yml: "yaml", ini: "toml", conf: "toml", properties: "toml", patch: "diff", docker: "dockerfile", make: "makefile", tex: "latex",
  mysql: "sql", postgresql: "sql", postgres: "sql", sqlite: "sql",
};
