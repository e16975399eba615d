// The style of an edit: words, a reference picture, and the mix of both.

import { type Term, embedPicture } from "./api";
import { button, debounce, h, icon } from "./dom";
import { NO_STYLE, type Style, prompts, savePrompt } from "./drafts";

const PRESETS: [string, string][] = [
  ["Blond bob", "short straight blond hair"],
  ["Long red curls", "long curly red hair"],
  ["Black & buzzed", "very short black hair"],
  ["Silver", "old, with grey hair"],
  ["Full beard", "full beard"],
  ["Glasses", "glasses"],
  ["Hat", "hat"],
  ["Red lips", "make-up and red lips"],
  ["Young", "young"],
  ["Blue shirt", "blue clothes"],
];
const THUMBNAIL = 96;
const TYPING_MS = 900;

/** What the service takes; null where the style stays as it is. */
export function termsOf(style: Style): Term[] | null {
  const terms: Term[] = [];
  const prompt = style.prompt.trim();
  if (prompt) terms.push({ text: prompt, weight: style.reference ? 1 - style.mix : 1 });
  if (style.reference) terms.push({ embedding: style.reference.embedding, weight: prompt ? style.mix : 1 });
  const given = terms.filter((t) => t.weight > 0);
  return given.length ? given : null;
}

export class StylePanel {
  readonly element: HTMLElement;
  private readonly fields = h("fieldset", { class: "plain" });
  private readonly note = h("p", { class: "note", hidden: true });
  private readonly prompt: HTMLInputElement;
  private readonly recent = h("div", { class: "recent", role: "group", "aria-label": "Recent prompts" });
  private readonly hint = h("p", { class: "hint", role: "status" });
  private readonly mix: HTMLInputElement;
  private readonly strength: HTMLInputElement;
  private readonly mixRow: HTMLElement;
  private readonly shapes: HTMLInputElement;
  private readonly reference = h("div", { class: "reference" });
  private style: Style = NO_STYLE;

  constructor(private readonly onChange: (style: Style) => void, private readonly onError: (error: unknown) => void) {
    this.prompt = h("input", {
      type: "text", id: "prompt", maxlength: 200, autocomplete: "off", spellcheck: "true", placeholder: "long curly red hair, glasses…",
    });
    const typed = debounce(TYPING_MS, () => this.setPrompt(this.prompt.value));
    this.prompt.addEventListener("input", typed);
    this.prompt.addEventListener("change", () => {
      typed.cancel();
      this.setPrompt(this.prompt.value);
    });
    this.prompt.addEventListener("keydown", (e) => {
      e.stopPropagation();
      if (e.key === "Enter") {
        typed.cancel();
        this.setPrompt(this.prompt.value);
        if (this.style.prompt) savePrompt(this.style.prompt);
        this.showRecent();
      }
    });
    [this.mix, this.mixRow] = this.slider("Mix", "words", "picture", (mix) => this.change({ mix }));
    let strengthRow: HTMLElement;
    [this.strength, strengthRow] = this.slider("Strength", "as it was", "full", (strength) => this.change({ strength }));
    this.shapes = h("input", { type: "checkbox", id: "shapes", onchange: () => this.change({ keepMap: !this.shapes.checked }) });
    this.fields.append(
      h("label", { for: "prompt", class: "label" }, "Describe the look"),
      this.prompt, this.hint, this.recent,
      h("div", { class: "presets", role: "group", "aria-label": "Presets" },
        ...PRESETS.map(([name, text]) => h("button", { type: "button", class: "pill", title: text, onclick: () => this.setPrompt(text, true) }, name))),
      h("div", { class: "label" }, "Reference picture"), this.reference,
      this.mixRow, strengthRow,
      h("label", { class: "check", for: "shapes", title: "Long, bald, hat, glasses: painted into the map" }, this.shapes, "Words may change shapes"),
      button({ text: "Reset style", icon: "reset", class: "quiet", onclick: () => this.change({ ...NO_STYLE }) }),
    );
    this.element = h("section", { class: "panel card style", "aria-label": "Style" }, h("h2", {}, "Style"), this.note, this.fields);
    this.show(NO_STYLE);
  }

  /** Say why nothing can be changed; an empty text means that it can. */
  disable(why: string): void {
    this.fields.disabled = Boolean(why);
    this.note.hidden = !why;
    this.note.textContent = why;
  }

  show(style: Style): void {
    this.style = style;
    if (this.prompt.value.trim() !== style.prompt) this.prompt.value = style.prompt;
    this.mix.value = String(Math.round(style.mix * 100));
    this.strength.value = String(Math.round(style.strength * 100));
    this.shapes.checked = !style.keepMap;
    this.mixRow.hidden = !(style.reference && style.prompt);
    this.showReference();
    this.showRecent();
  }

  ignored(words: string[]): void {
    this.hint.textContent = words.length ? `Not understood: ${words.join(", ")}` : "";
  }

  private setPrompt(prompt: string, remember = false): void {
    prompt = prompt.trim();
    if (remember) savePrompt(prompt);
    if (prompt !== this.style.prompt) this.change({ prompt });
  }

  private change(change: Partial<Style>): void {
    this.ignored([]);
    this.show({ ...this.style, ...change });
    this.onChange(this.style);
  }

  private slider(name: string, low: string, high: string, changed: (value: number) => void): [HTMLInputElement, HTMLElement] {
    const id = name.toLowerCase();
    const input = h("input", { type: "range", id, min: 0, max: 100, onchange: () => changed(Number(input.value) / 100) });
    const row = h("div", { class: "slider" }, h("label", { for: id, class: "label" }, name), input,
      h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, low), h("span", {}, high)));
    return [input, row];
  }

  private showRecent(): void {
    const recent = prompts().filter((p) => p !== this.style.prompt).slice(0, 3);
    this.recent.hidden = !recent.length;
    this.recent.replaceChildren(...recent.map((p) => h("button", { type: "button", class: "link", title: "Use again", onclick: () => this.setPrompt(p, true) }, p)));
  }

  private showReference(): void {
    const choose = h("input", { type: "file", accept: "image/*", class: "hidden-file", id: "reference", tabindex: -1, "aria-label": "Reference picture", onchange: () => void this.embedReference(choose.files?.[0]) });
    const { reference } = this.style;
    this.reference.replaceChildren(
      reference ? h("img", { src: reference.thumbnail, alt: "Reference picture" }) : h("span", { class: "placeholder", "aria-hidden": "true" }, icon("picture", 22)),
      choose,
      h("div", { class: "column" },
        button({ text: reference ? "Replace" : "Choose a picture", class: "small", onclick: () => choose.click() }),
        reference ? button({ text: "Remove", class: "small quiet", onclick: () => this.change({ reference: null }) }) : h("span", { class: "faint" }, "or drop one here")),
    );
    this.reference.ondragover = (e) => {
      e.preventDefault();
      e.stopPropagation();
      this.reference.classList.add("over");
    };
    this.reference.ondragleave = () => this.reference.classList.remove("over");
    this.reference.ondrop = (e) => {
      e.preventDefault();
      e.stopPropagation();
      this.reference.classList.remove("over");
      void this.embedReference(e.dataTransfer?.files[0]);
    };
  }

  private async embedReference(file: File | undefined): Promise<void> {
    if (!file || this.fields.disabled) return;
    this.reference.classList.add("busy");
    try {
      const { embedding } = await embedPicture(file);
      this.change({ reference: { embedding, thumbnail: await thumbnail(file) } });
    } catch (error) {
      this.onError(error);
    } finally {
      this.reference.classList.remove("busy");
    }
  }
}

async function thumbnail(file: Blob): Promise<string> {
  const bitmap = await createImageBitmap(file);
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = h("canvas", { width: THUMBNAIL, height: THUMBNAIL });
  canvas.getContext("2d")!.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, THUMBNAIL, THUMBNAIL);
  bitmap.close();
  return canvas.toDataURL("image/webp", 0.8);
}
