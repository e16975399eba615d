// Runs before anything is drawn: a picture that is dropped or pasted before the editor has loaded is kept for it, and
// the browser does not leave the page to show it. editor.ts calls release() once it listens itself.
"use strict";
(() => {
  let kept = null;
  const over = (event) => event.preventDefault();
  const take = (event) => {
    const file = (event.dataTransfer ?? event.clipboardData)?.files[0];
    if (!file) return;
    event.preventDefault();
    kept = file;
  };
  const listeners = Object.entries({ dragover: over, drop: take, paste: take });
  for (const [kind, listener] of listeners) window.addEventListener(kind, listener);
  window.headliftEarly = {
    release() {
      for (const [kind, listener] of listeners) window.removeEventListener(kind, listener);
      return kept;
    },
  };
})();
