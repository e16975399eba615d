// The editor: what is open, what is being changed, and the one preview that is under way.

import * as api from "./api";
import { ApiError, type Head, type SessionInfo } from "./api";
import { button, debounce, dropdown, h, icon, save } from "./dom";
import { Toasts, confirm, showKeys, takePicture } from "./dialogs";
import { NO_STYLE, type Style, type Work, dropDraft, deleteAll, loadDraft, savePrompt, saveDraft } from "./drafts";
import { History } from "./history";
import { labelOfKey } from "./labels";
import { MapPanel } from "./mappanel";
import { difference, same } from "./painting";
import { StylePanel, termsOf } from "./stylepanel";
import { Tree, idOf, titleOf } from "./tree";
import { Viewport } from "./viewport";

declare global {
  interface Window {
    headliftEarly: { release(): File | null }; // public/early.js
  }
}

const PAUSE_MS = 350; // after the last stroke
const AUTOSAVE_MS = 600;
const PICTURE_SIDE = 1024;
const CURRENT = "headlift.head";
const PREVIEWS = "headlift.previews";
const STAGES: Record<string, string> = {
  preprocess: "Finding the face", encode: "Encoding the portrait", decode: "Building the head", refine: "Refining", pack: "Packing", store: "Storing",
};

export class Editor {
  readonly element: HTMLElement;
  private readonly toasts = new Toasts();
  private readonly viewport: Viewport;
  private readonly map: MapPanel;
  private readonly style: StylePanel;
  private readonly tree: Tree;
  private readonly welcome: HTMLElement;
  private readonly progress = h("div", { class: "progress", hidden: true });
  private readonly undoButton: HTMLButtonElement;
  private readonly redoButton: HTMLButtonElement;
  private readonly exportButton: HTMLButtonElement;
  private readonly previewBar: HTMLElement;
  private readonly chooser: HTMLInputElement;

  private heads: Head[] = [];
  private current: Head | null = null;
  private preview: Head | null = null; // of current, with what history.state says
  private original: Uint8Array<ArrayBuffer> | null = null; // the map of current
  private history = new History<Work>({ labels: new Uint8Array(), style: NO_STYLE });
  private opening: AbortController | null = null;
  private computing: AbortController | null = null;
  private creating: AbortController | null = null;
  private started = false; // the list of heads is known
  private waiting: Blob | null = null; // a picture that came before
  private readonly computeSoon = debounce(PAUSE_MS, () => void this.compute());
  private readonly autosave = debounce(AUTOSAVE_MS, () => this.saveWork());

  constructor(private readonly session: SessionInfo, private readonly onSignOut: () => void) {
    const onError = (error: unknown) => this.toasts.fail(error);
    const { center, distance_m, fov_deg } = session.camera;
    this.viewport = new Viewport({ center, distance: distance_m, fov: fov_deg }, onError);
    this.map = new MapPanel({ painted: (labels) => this.push({ ...this.history.state, labels }), painting: () => this.cancelCompute() });
    this.style = new StylePanel((style) => this.push({ ...this.history.state, style }), onError);
    this.tree = new Tree({ open: (head) => void this.open(head), remove: (head) => void this.remove(head) });
    this.chooser = h("input", { type: "file", accept: "image/*", class: "hidden-file", "aria-label": "Portrait", tabindex: -1,
      onchange: () => { void this.create(this.chooser.files?.[0]); this.chooser.value = ""; } });
    this.undoButton = button({ icon: "undo", label: "Undo", key: "Ctrl Z", onclick: () => this.undo() });
    this.redoButton = button({ icon: "redo", label: "Redo", key: "Ctrl Shift Z", onclick: () => this.redo() });
    this.exportButton = button({ icon: "download", text: "Export" });
    this.previewBar = h("div", { class: "preview-bar", hidden: true, role: "group", "aria-label": "Preview" },
      h("span", {}, "Preview"),
      button({ text: "Discard", class: "quiet small", title: "Discard (Escape)", onclick: () => this.discard() }),
      button({ text: "Keep", icon: "check", class: "primary small", title: "Keep (Enter)", onclick: () => void this.keep() }));
    this.viewport.stage.append(this.previewBar, this.progress);
    this.welcome = this.makeWelcome();
    this.element = h("div", { class: "editor" }, this.makeHeader(),
      h("main", { class: "panels", "data-panel": "view" }, this.map.element, this.viewport.element,
        h("div", { class: "side" }, this.style.element, this.tree.element), this.chooser),
      this.makeTabs(), this.welcome, this.toasts.element);
    this.listen();
    this.update();
  }

  async start(): Promise<void> {
    await this.dropPreviews();
    this.heads = await api.listHeads();
    this.started = true;
    if (this.waiting) return this.create(this.waiting);
    const last = this.heads.find((head) => head.id === localStorage.getItem(CURRENT)) ?? this.heads.at(-1);
    if (last) await this.open(last);
    this.update();
  }

  // Header, tabs and welcome page

  private makeHeader(): HTMLElement {
    const files = h("div", { class: "menu" },
      ...([["ply", "PLY", "3D Gaussian Splatting"], ["spz", "SPZ", "small, for the web"], ["sog", "SOG", "smallest; PlayCanvas, SuperSplat"], ["glb", "GLB", "glTF with Gaussians"], ["html", "HTML", "a page to send, opens anywhere"]] as const).map(([kind, name, what]) =>
        this.item(name, what, () => this.export(() => api.exported(this.shown!.id, kind), `head.${kind}`))),
      this.item("PNG", "this view, sharpened", () => this.export(() => api.picture(this.shown!.id, this.viewport.view, PICTURE_SIDE, true), "head.png")),
      this.item("MP4", "turntable", () => this.export(() => api.turntable(this.shown!.id), "turntable.mp4")));
    const more = h("div", { class: "menu right" },
      this.item("Keyboard", "all keys", showKeys),
      h("a", { class: "item", href: "./licenses.txt", target: "_blank", rel: "noopener" }, h("strong", {}, "Licences"), h("span", { class: "faint" }, "of what this page is made of")),
      ...(this.session.asks_for_key ? [this.item("Sign out", "heads stay", () => this.signOut())] : []),
      this.item("Delete my data", "here and on the server", () => void this.deleteData(), "danger"));
    return h("header", {},
      h("h1", { class: "brand" }, h("img", { src: "./favicon.svg", alt: "", width: 24, height: 24 }), "Headlift"),
      button({ icon: "plus", text: "New portrait", title: "New portrait", onclick: () => this.showWelcome() }),
      h("div", { class: "spacer" }), this.undoButton, this.redoButton, h("span", { class: "rule" }),
      dropdown(this.exportButton, files), dropdown(button({ icon: "more", label: "More" }), more));
  }

  private item(name: string, what: string, run: () => void, kind = ""): HTMLButtonElement {
    return h("button", { type: "button", class: `item ${kind}`, onclick: run }, h("strong", {}, name), h("span", { class: "faint" }, what));
  }

  private makeTabs(): HTMLElement {
    const panels = [["view", "3D", "turn"], ["map", "Paint", "brush"], ["side", "Style", "star"]] as const;
    const tabs = panels.map(([panel, name, drawn]) => h("button", { type: "button", class: "tab", "aria-pressed": String(panel === "view"), onclick: () => {
      this.element.querySelector<HTMLElement>(".panels")!.dataset.panel = panel;
      tabs.forEach((t, i) => t.setAttribute("aria-pressed", String(panels[i][0] === panel)));
    } }, icon(drawn), name));
    return h("nav", { class: "tabs", "aria-label": "Panels" }, ...tabs);
  }

  private makeWelcome(): HTMLElement {
    const close = button({ icon: "close", label: "Close", class: "quiet corner", onclick: () => { this.welcome.hidden = true; } });
    return h("section", { class: "welcome", hidden: true, "aria-label": "New portrait" },
      h("div", { class: "drop" }, close,
        h("span", { class: "big-icon" }, icon("upload", 30)),
        h("h2", {}, "Turn a portrait into a 3D head"),
        h("p", {}, "Drop a picture here, or paste one. A face seen from the front in even light works best."),
        h("div", { class: "choices" },
          button({ text: "Choose a picture", icon: "picture", class: "primary", onclick: () => this.chooser.click() }),
          button({ text: "Use the camera", icon: "camera", onclick: () => void this.shoot() }),
          this.session.sample ? button({ text: "Try the sample", icon: "star", onclick: () => void this.trySample() }) : null),
        h("p", { class: "faint" }, "Pictures stay on this server, seen by this browser alone, until you delete them.")));
  }

  private showWelcome(): void {
    this.welcome.hidden = false;
    this.welcome.querySelector<HTMLElement>(".corner")!.hidden = !this.current;
    this.welcome.querySelector<HTMLElement>(".primary")!.focus();
  }

  private get shown(): Head | null {
    return this.preview ?? this.current;
  }

  private get isChanged(): boolean {
    const { labels, style } = this.history.state;
    return Boolean(this.original) && (!same(labels, this.original!) || termsOf(style) !== null);
  }

  private update(): void {
    this.undoButton.disabled = !this.history.canUndo;
    this.redoButton.disabled = !this.history.canRedo;
    this.exportButton.disabled = !this.shown;
    this.previewBar.hidden = !this.preview;
    this.tree.show(this.heads, this.current?.id ?? "");
    this.element.dataset.steps = String(this.history.steps);
    this.element.toggleAttribute("data-ready", Boolean(this.original));
    this.element.dataset.head = this.shown?.id ?? "";
    if (!this.current && !this.creating) this.showWelcome();
    else if (this.creating) this.welcome.hidden = true;
  }

  // Making heads

  private async create(file: Blob | undefined | null): Promise<void> {
    if (!file) return;
    if (!this.started) {
      this.waiting = file;
      return;
    }
    if (file.type && !file.type.startsWith("image/")) return this.toasts.fail("That is no picture. Use a JPEG, PNG, WebP, AVIF or HEIC file.");
    if (file.size > this.session.picture_bytes_max)
      return this.toasts.fail(`The picture has ${(file.size / 1e6).toFixed(0)} MB; the limit is ${(this.session.picture_bytes_max / 1e6).toFixed(0)} MB.`);
    this.creating?.abort();
    const creating = (this.creating = new AbortController());
    const url = URL.createObjectURL(file);
    const words = h("p", { role: "status" }, "Uploading");
    const bar = h("progress", { max: 1, "aria-label": "Progress" });
    this.progress.replaceChildren(h("img", { src: url, alt: "Your picture" }), words, bar,
      button({ text: "Cancel", class: "small", onclick: () => creating.abort() }));
    this.progress.hidden = false;
    this.update();
    try {
      const head = await api.createHead(file, (stage, share) => {
        words.textContent = (STAGES[stage] ?? "Working") + (share ? ` · ${Math.round(share * 100)} %` : "");
        if (share) bar.value = share;
        else bar.removeAttribute("value");
      }, creating.signal);
      this.heads.push(head);
      this.creating = null;
      await this.open(head);
      for (const reason of head.quality?.reasons ?? []) this.toasts.say(reason);
    } catch (error) {
      this.toasts.fail(error);
    } finally {
      URL.revokeObjectURL(url);
      if (this.creating === creating || !this.creating) {
        this.creating = null;
        this.progress.hidden = true;
        this.update();
      }
    }
  }

  private async shoot(): Promise<void> {
    try {
      await this.create(await takePicture());
    } catch (error) {
      this.toasts.fail(error);
    }
  }

  private async trySample(): Promise<void> {
    try {
      await this.create(await api.sample());
    } catch (error) {
      this.toasts.fail(error);
    }
  }

  // Opening heads

  private async open(head: Head): Promise<void> {
    this.cancelCompute();
    this.saveWork();
    void this.dropPreviews();
    this.opening?.abort();
    const opening = (this.opening = new AbortController());
    this.current = head;
    this.preview = null;
    this.original = null;
    this.history.reset({ labels: new Uint8Array(), style: NO_STYLE });
    this.style.show(NO_STYLE);
    localStorage.setItem(CURRENT, head.id);
    this.allowPainting(false);
    this.welcome.hidden = true;
    this.update();
    const shown = this.viewport.show(head, this.parentOf(head)).catch((error) => this.toasts.fail(error));
    try {
      const map = await api.labelMap(head.id, opening.signal);
      const portrait = map.portrait ? await createImageBitmap(map.portrait) : null;
      const draft = await loadDraft(head.id);
      if (opening.signal.aborted) return portrait?.close();
      this.original = map.labels;
      this.history.reset({ labels: map.labels, style: NO_STYLE });
      this.map.view.load(map, map.labels, portrait);
      this.allowEditing("");
      if (draft && draft.work.labels.length === map.labels.length) this.push(draft.work, false);
      this.showWork();
    } catch (error) {
      if (error instanceof ApiError && error.reason === "MISSING_WEIGHTS")
        this.allowEditing("This server has no weights for editing. Heads can be made, turned and exported.");
      else if (!opening.signal.aborted) {
        this.allowEditing("The map could not be read.");
        this.toasts.fail(error);
      }
    }
    await shown;
  }

  /** Painting is off while a map loads. */
  private allowPainting(on: boolean): void {
    this.map.view.canvas.inert = !on;
  }

  private allowEditing(why: string): void {
    this.allowPainting(!why);
    this.map.disable(why);
    this.style.disable(why);
    this.element.classList.toggle("no-editing", Boolean(why));
    if (why) this.map.view.unload();
  }

  private parentOf(head: Head): string {
    const parent = idOf(head.parent);
    return this.heads.some((h) => h.id === parent) ? parent : "";
  }

  private async remove(head: Head): Promise<void> {
    if (!(await confirm("Delete this head?", `“${titleOf(head)}” and everything that was computed for it will be gone. Heads made from it stay.`, "Delete"))) return;
    try {
      await api.deleteHead(head.id);
      await dropDraft(head.id);
      this.heads = this.heads.filter((h) => h.id !== head.id);
      if (this.current?.id === head.id) {
        const next = this.heads.find((h) => h.id === idOf(head.parent)) ?? this.heads.at(-1);
        this.current = null;
        if (next) await this.open(next);
        else this.close();
      }
      this.update();
    } catch (error) {
      this.toasts.fail(error);
    }
  }

  private close(): void {
    this.cancelCompute();
    this.opening?.abort();
    this.current = this.preview = this.original = null;
    this.history.reset({ labels: new Uint8Array(), style: NO_STYLE });
    this.viewport.clear();
    this.map.view.unload();
    this.style.show(NO_STYLE);
    this.update();
  }

  // Changing the open head

  private push(work: Work, autosave = true): void {
    if (!this.original) return;
    this.history.push(work);
    if (autosave) this.autosave();
    this.showWork();
  }

  private undo(): void {
    if (this.history.undo()) this.afterUndo();
  }

  private redo(): void {
    if (this.history.redo()) this.afterUndo();
  }

  private afterUndo(): void {
    this.autosave();
    this.showWork();
  }

  private showWork(): void {
    const { labels, style } = this.history.state;
    this.map.view.labels = labels;
    this.style.show(style);
    this.cancelCompute();
    this.computeSoon();
    this.update();
  }

  private cancelCompute(): void {
    this.computeSoon.cancel();
    this.computing?.abort();
    this.computing = null;
    this.viewport.showStatus("");
  }

  /** Ask for the head that map and style describe; the answer counts only while nothing newer was asked for. */
  private async compute(): Promise<void> {
    const head = this.current;
    if (!head || !this.original) return;
    if (!this.isChanged) return this.discardPreview();
    const computing = (this.computing = new AbortController());
    const { labels, style } = this.history.state;
    this.viewport.showStatus("Updating", true);
    try {
      const answer = await api.edit(head.id, difference(this.original, labels), termsOf(style), style.strength, Boolean(style.keepMap), computing.signal);
      this.recordPreview(answer.head.id);
      if (computing.signal.aborted) return void api.deleteHead(answer.head.id).catch(() => undefined);
      const old = this.preview;
      this.preview = answer.head;
      this.style.ignored(answer.ignored_words);
      await this.viewport.show(answer.head, head.id);
      if (old) this.dropPreview(old.id);
      this.update();
      if (style.prompt && !style.keepMap) {
        const { labels } = await api.labelMap(answer.head.id, computing.signal);
        if (!computing.signal.aborted) this.map.view.showStyledLabels(labels);
      }
    } catch (error) {
      if (!computing.signal.aborted) this.toasts.fail(error);
    } finally {
      if (this.computing === computing) {
        this.computing = null;
        this.viewport.showStatus("");
      }
    }
  }

  private discard(): void {
    if (!this.original) return;
    this.push({ labels: this.original, style: NO_STYLE });
  }

  private async discardPreview(): Promise<void> {
    const old = this.preview;
    if (!old || !this.current) return;
    this.preview = null;
    this.update();
    await this.viewport.show(this.current, this.parentOf(this.current)).catch((error) => this.toasts.fail(error));
    this.dropPreview(old.id);
  }

  /** The preview becomes a head of its own, and work goes on from it. */
  private async keep(): Promise<void> {
    const preview = this.preview;
    if (!preview || !this.current || this.computing) return;
    const { prompt } = this.history.state.style;
    if (prompt) savePrompt(prompt);
    this.deletePreviewRecord(preview.id);
    this.preview = null;
    await dropDraft(this.current.id);
    this.autosave.cancel();
    this.original = null;
    this.heads.push(preview);
    await this.open(preview);
  }

  private saveWork(): void {
    this.autosave.cancel();
    if (!this.current || !this.original) return;
    if (this.isChanged) void saveDraft({ head: this.current.id, work: this.history.state });
    else void dropDraft(this.current.id);
  }

  // Previews are stored heads; those that nobody keeps are deleted, at the latest by the next visit

  private get previews(): string[] {
    return JSON.parse(localStorage.getItem(PREVIEWS) ?? "[]");
  }

  private recordPreview(id: string): void {
    localStorage.setItem(PREVIEWS, JSON.stringify([...this.previews, id]));
  }

  private deletePreviewRecord(id: string): void {
    localStorage.setItem(PREVIEWS, JSON.stringify(this.previews.filter((p) => p !== id)));
  }

  private dropPreview(id: string): void {
    api.deleteHead(id).then(() => this.deletePreviewRecord(id), (error: ApiError) => {
      if (error.reason === "NOT_FOUND") this.deletePreviewRecord(id);
    });
  }

  private async dropPreviews(): Promise<void> {
    for (const id of this.previews) {
      try {
        await api.deleteHead(id);
      } catch (error) {
        if ((error as ApiError).reason !== "NOT_FOUND") continue;
      }
      this.deletePreviewRecord(id);
    }
  }

  // Export, sign out, deletion

  private async export(fetch: () => Promise<Blob>, name: string): Promise<void> {
    this.viewport.showStatus(`Preparing ${name}`, true);
    try {
      save(await fetch(), name);
    } catch (error) {
      this.toasts.fail(error);
    } finally {
      this.viewport.showStatus("");
    }
  }

  private async signOut(): Promise<void> {
    await api.signOut().catch(() => undefined);
    this.onSignOut();
  }

  private async deleteData(): Promise<void> {
    const count = this.heads.length;
    const what = count ? `${count} head${count > 1 ? "s" : ""}, their maps, styles and pictures` : "Maps, styles and pictures";
    if (!(await confirm("Delete everything?", `${what} on the server, and all that this browser remembers, will be gone for good.`, "Delete everything"))) return;
    try {
      this.creating?.abort();
      this.close();
      await api.deleteData();
      await deleteAll();
      await api.session(); // a fresh one
      this.heads = [];
      this.update();
      this.toasts.say("Everything has been deleted.");
      if (this.session.asks_for_key) this.onSignOut();
    } catch (error) {
      this.toasts.fail(error);
    }
  }

  // Keys, drops and pastes of the whole window

  private listen(): void {
    window.addEventListener("keydown", (e) => this.key(e));
    window.addEventListener("keyup", (e) => {
      if (e.code === "Space") this.map.view.spaceHeld = false;
      if (e.key === "v" && this.map.view.peek) {
        this.map.view.peek = false;
        this.map.view.refresh();
      }
    });
    window.addEventListener("paste", (e) => {
      const file = [...(e.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
      if (file) void this.create(file);
    });
    let over = 0;
    const dragging = (on: boolean) => this.element.classList.toggle("dropping", on);
    window.addEventListener("dragenter", () => dragging(++over > 0));
    window.addEventListener("dragleave", () => dragging(--over > 0));
    window.addEventListener("dragover", (e) => e.preventDefault());
    window.addEventListener("drop", (e) => {
      e.preventDefault();
      over = 0;
      dragging(false);
      void this.create(e.dataTransfer?.files[0]);
    });
    void this.create(window.headliftEarly.release());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.saveWork();
    });
  }

  private key(e: KeyboardEvent): void {
    const target = e.target instanceof Element ? e.target : document.body;
    const typing = target.matches("input:not([type=range]), textarea, select");
    if (typing || document.querySelector("dialog[open]")) return;
    if ((e.ctrlKey || e.metaKey) && !e.altKey) {
      const key = e.key.toLowerCase();
      if (key === "z") e.shiftKey ? this.redo() : this.undo();
      else if (key === "y") this.redo();
      else return;
      return e.preventDefault();
    }
    if (e.ctrlKey || e.metaKey || e.altKey || !this.current) return;
    const onButton = target.matches("button, a");
    if (e.key === "Enter" && !onButton) void this.keep();
    else if (e.key === "Escape" && this.preview) this.discard();
    else if (e.key === "t") this.viewport.toggleTurning();
    else if (this.map.disabled) return;
    else this.paintKey(e, onButton);
  }

  private paintKey(e: KeyboardEvent, onButton: boolean): void {
    const tool = ({ b: "brush", e: "eraser", g: "fill", l: "lasso", i: "dropper" } as const)[e.key.toLowerCase()];
    const label = labelOfKey(e);
    if (tool) this.map.use(tool);
    else if (label) this.map.pick(label.id);
    else if (e.key === "m") this.map.toggleMirror();
    else if (e.key === "[") this.map.resize(-1);
    else if (e.key === "]") this.map.resize(1);
    else if (e.key === "v" && !e.repeat) {
      this.map.view.peek = true;
      this.map.view.refresh();
    } else if (e.code === "Space" && !onButton) {
      this.map.view.spaceHeld = true;
      e.preventDefault();
    }
  }
}

export type { Style };
