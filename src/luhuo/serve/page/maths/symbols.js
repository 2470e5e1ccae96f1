/** TeX's names: letters, operators, functions, accents and alphabets, as Unicode. */

const table = (text) => Object.fromEntries(text.trim().split(/\s+/).map((pair) => [pair.slice(0, pair.indexOf(":", 1)), pair.slice(pair.indexOf(":", 1) + 1)]));

export const LETTERS = table(`
  alpha:α beta:β gamma:γ delta:δ epsilon:ϵ varepsilon:ε zeta:ζ eta:η theta:θ vartheta:ϑ iota:ι kappa:κ lambda:λ mu:μ nu:ν xi:ξ
  omicron:ο pi:π varpi:ϖ rho:ρ varrho:ϱ sigma:σ varsigma:ς tau:τ upsilon:υ phi:ϕ varphi:φ chi:χ psi:ψ omega:ω
  Gamma:Γ Delta:Δ Theta:Θ Lambda:Λ Xi:Ξ Pi:Π Sigma:Σ Upsilon:Υ Phi:Φ Psi:Ψ Omega:Ω
  infty:∞ partial:∂ nabla:∇ hbar:ℏ ell:ℓ Re:ℜ Im:ℑ aleph:ℵ beth:ℶ wp:℘ emptyset:∅ varnothing:∅ imath:ı jmath:ȷ
  angle:∠ triangle:△ square:□ Box:□ bot:⊥ top:⊤ prime:′ degree:° dagger:† ddagger:‡ checkmark:✓ bigstar:★ clubsuit:♣ heartsuit:♡
  forall:∀ exists:∃ nexists:∄ ldots:… dots:… dotsc:… cdots:⋯ dotsb:⋯ vdots:⋮ ddots:⋱ S:§ P:¶ pounds:£ blacksquare:■ qed:∎
`);

export const OPERATORS = table(`
  times:× cdot:⋅ div:÷ pm:± mp:∓ ast:∗ star:⋆ circ:∘ bullet:∙ oplus:⊕ ominus:⊖ otimes:⊗ oslash:⊘ odot:⊙ wedge:∧ land:∧ vee:∨ lor:∨
  cap:∩ cup:∪ sqcap:⊓ sqcup:⊔ uplus:⊎ setminus:∖ wr:≀ amalg:⨿ neg:¬ lnot:¬ dotplus:∔
  le:≤ leq:≤ leqslant:⩽ ge:≥ geq:≥ geqslant:⩾ ne:≠ neq:≠ ll:≪ gg:≫ equiv:≡ approx:≈ approxeq:≊ sim:∼ simeq:≃ cong:≅ propto:∝ doteq:≐ triangleq:≜
  prec:≺ succ:≻ preceq:⪯ succeq:⪰ asymp:≍ models:⊨ vdash:⊢ dashv:⊣ vDash:⊨ perp:⊥ parallel:∥ nparallel:∦ mid:∣ nmid:∤ lt:< gt:> coloneqq:≔
  in:∈ notin:∉ ni:∋ subset:⊂ supset:⊃ subseteq:⊆ supseteq:⊇ subsetneq:⊊ supsetneq:⊋ sqsubseteq:⊑ sqsupseteq:⊒ nsubseteq:⊈
  to:→ rightarrow:→ leftarrow:← gets:← leftrightarrow:↔ Rightarrow:⇒ Leftarrow:⇐ Leftrightarrow:⇔ implies:⟹ impliedby:⟸ iff:⟺
  longrightarrow:⟶ longleftarrow:⟵ Longrightarrow:⟹ Longleftarrow:⟸ Longleftrightarrow:⟺ mapsto:↦ longmapsto:⟼ hookrightarrow:↪ hookleftarrow:↩
  uparrow:↑ downarrow:↓ updownarrow:↕ Uparrow:⇑ Downarrow:⇓ nearrow:↗ searrow:↘ swarrow:↙ nwarrow:↖ rightharpoonup:⇀ leftharpoonup:↼ rightleftharpoons:⇌ rightsquigarrow:⇝
  therefore:∴ because:∵ colon:: vartriangleleft:⊲ vartriangleright:⊳ triangleleft:◃ triangleright:▹ diamond:⋄ bowtie:⋈ smile:⌣ frown:⌢
`);

/** Large operators; those of the second table carry their limits at the side even in display. */
export const LARGE = table("sum:∑ prod:∏ coprod:∐ bigcup:⋃ bigcap:⋂ bigvee:⋁ bigwedge:⋀ bigoplus:⨁ bigotimes:⨂ bigodot:⨀ biguplus:⨄ bigsqcup:⨆");
export const INTEGRALS = table("int:∫ iint:∬ iiint:∭ oint:∮ oiint:∯ intop:∫");

export const FUNCTIONS = new Set("arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan tanh sgn".split(" "));
export const LIMIT_FUNCTIONS = new Set("lim limsup liminf max min sup inf argmax argmin det gcd Pr".split(" "));
export const FUNCTION_NAMES = {limsup: "lim sup", liminf: "lim inf", argmax: "arg max", argmin: "arg min"};

export const DELIMITERS = table(`
  (:( ):) [:[ ]:] |:| /:/ <:⟨ >:⟩ lbrace:{ rbrace:} {:{ }:} lbrack:[ rbrack:] langle:⟨ rangle:⟩ lfloor:⌊ rfloor:⌋ lceil:⌈ rceil:⌉
  vert:| lvert:| rvert:| Vert:‖ lVert:‖ rVert:‖ uparrow:↑ downarrow:↓ backslash:\\ lgroup:⟮ rgroup:⟯ ulcorner:⌜ urcorner:⌝
`);

export const ACCENTS = table("hat:^ widehat:^ check:ˇ tilde:~ widetilde:~ acute:´ grave:` dot:˙ ddot:¨ dddot:⃛ breve:˘ bar:¯ overline:‾ vec:→ overrightarrow:→ overleftarrow:← overbrace:⏞ overbracket:⎴ mathring:˚");
export const UNDER = table("underline:_ underbrace:⏟ underbracket:⎵ underrightarrow:→");
export const STRETCHED = new Set("widehat widetilde overline overrightarrow overleftarrow overbrace overbracket underline underbrace underbracket underrightarrow".split(" "));
export const ARROWS = table("xrightarrow:→ xleftarrow:← xRightarrow:⇒ xLeftarrow:⇐ xleftrightarrow:↔ xmapsto:↦ xlongequal:=");

/** Widths of spaces in em. */
export const SPACES = {",": 0.167, ":": 0.222, ">": 0.222, ";": 0.278, "!": -0.167, " ": 0.25, "~": 0.25, quad: 1, qquad: 2, enspace: 0.5, thinspace: 0.167, medspace: 0.222, thickspace: 0.278, negthinspace: -0.167};

/** First code points of A, a and 0 in Unicode's mathematical alphabets (block U+1D400), and the letters kept elsewhere. */
const ALPHABETS = {
  mathbf: [0x1d400, 0x1d41a, 0x1d7ce], mathbb: [0x1d538, 0x1d552, 0x1d7d8], mathcal: [0x1d49c, 0x1d4b6, 0], mathscr: [0x1d49c, 0x1d4b6, 0],
  mathfrak: [0x1d504, 0x1d51e, 0], mathsf: [0x1d5a0, 0x1d5ba, 0x1d7e2], mathtt: [0x1d670, 0x1d68a, 0x1d7f6], boldsymbol: [0x1d468, 0x1d482, 0x1d7ce],
};
const ELSEWHERE = {
  mathbb: {C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ"},
  mathcal: {B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ"},
  mathfrak: {C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ"},
};
const SAME = {bm: "boldsymbol", bf: "mathbf", Bbb: "mathbb", cal: "mathcal", mathbfit: "boldsymbol", frak: "mathfrak", symbf: "mathbf"};
export const STYLES = new Set([...Object.keys(ALPHABETS), ...Object.keys(SAME), "mathrm", "mathit", "mathnormal", "rm", "it"]);
const BOLD_GREEK = {"Α": 0x1d6a8, "α": 0x1d6c2};

/** A letter in a mathematical alphabet; a character that the alphabet lacks stays as it is. */
export function styled(letter, style) {
  const name = SAME[style] ?? (style === "mathscr" ? "mathcal" : style);
  if (ELSEWHERE[name]?.[letter]) return ELSEWHERE[name][letter];
  const starts = ALPHABETS[name];
  const code = letter.codePointAt(0);
  if (!starts) return letter;
  const place = /[A-Z]/.test(letter) ? starts[0] + code - 65 : /[a-z]/.test(letter) ? starts[1] + code - 97 : /\d/.test(letter) && starts[2] ? starts[2] + code - 48 : 0;
  if (place) return String.fromCodePoint(place);
  if (name === "mathbf" || name === "boldsymbol") {
    for (const [first, start] of Object.entries(BOLD_GREEK)) {
      const distance = code - first.codePointAt(0);
      if (distance >= 0 && distance < 25) return String.fromCodePoint(start + distance);
    }
  }
  return letter;
}
