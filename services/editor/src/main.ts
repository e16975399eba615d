import "./style.css";
import { session, signIn } from "./api";
import { signInPage } from "./dialogs";
import { h } from "./dom";
import { Editor } from "./editor";

const app = document.getElementById("app")!;

async function enter(): Promise<void> {
  const info = await session();
  if (!info.signed_in) {
    app.replaceChildren(signInPage(async (key) => {
      await signIn(key);
      await enter();
    }));
    return;
  }
  const editor = new Editor(info, () => location.reload());
  app.replaceChildren(editor.element);
  await editor.start();
}

enter().catch((error: Error) => {
  app.replaceChildren(h("main", { class: "center" },
    h("div", { class: "panel card sign-in", role: "alert" }, h("h1", {}, "Headlift"), h("p", {}, error.message),
      h("button", { type: "button", class: "button primary", onclick: () => location.reload() }, "Try again"))));
});
