"use strict";
(() => {
  // Must agree with headlift.model: cameras.orbit_cameras and the constants of splat.reference.
  const FOCAL = 4.2647, DISTANCE = 1.706, CENTER = [0, 0.01, 0];
  const NEAREST = 0.4, FARTHEST = 8, STEEPEST = 85;
  const TEXELS = 3; // of the texture, a Gaussian
  const TEXTURE_WIDTH = 1024 * TEXELS;

  const canvas = document.getElementById("view");
  const message = document.getElementById("message");
  const state = (name, text) => {
    document.documentElement.dataset.state = name;
    message.textContent = text;
    message.hidden = !text;
  };

  // -- the file ---------------------------------------------------------------------------------------------------

  async function gunzipped(base64) {
    const bytes = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Means [3N] and texels of position, colour and covariance, of an SPZ file of version 3 and degree 0. */
  function parse(bytes) {
    const view = new DataView(bytes.buffer);
    const count = view.getUint32(8, true), unit = 2 ** -bytes[13];
    const positions = 16, alphas = positions + 9 * count, colors = alphas + count;
    const scales = colors + 3 * count, rotations = scales + 3 * count;
    const means = new Float32Array(3 * count);
    const rows = Math.ceil((count * TEXELS) / TEXTURE_WIDTH);
    const texels = new Float32Array(TEXTURE_WIDTH * rows * 4);
    const words = new Uint32Array(texels.buffer);
    const quat = [0, 0, 0, 0], axes = new Float64Array(9);
    for (let i = 0; i < count; i++) {
      const at = i * TEXELS * 4;
      for (let k = 0; k < 3; k++) {
        const from = positions + 9 * i + 3 * k;
        const whole = (bytes[from] | (bytes[from + 1] << 8) | (bytes[from + 2] << 16)) << 8 >> 8;
        texels[at + k] = means[3 * i + k] = whole * unit;
      }
      let packed = 0;
      for (let k = 0; k < 3; k++) {
        const value = (bytes[colors + 3 * i + k] / 255 - 0.5) * (0.28209479177387814 / 0.15) + 0.5;
        packed |= Math.round(Math.min(Math.max(value, 0), 1) * 255) << (8 * k);
      }
      words[at + 3] = (packed | (bytes[alphas + i] << 24)) >>> 0;
      smallestThree(view.getUint32(rotations + 4 * i, true), quat);
      const [x, y, z, w] = quat;
      const rotation = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];
      for (let k = 0; k < 9; k++) axes[k] = rotation[k] * Math.exp(bytes[scales + 3 * i + (k % 3)] / 16 - 10);
      let to = at + 4;
      for (let a = 0; a < 3; a++)
        for (let b = a; b < 3; b++)
          texels[to++] = axes[3 * a] * axes[3 * b] + axes[3 * a + 1] * axes[3 * b + 1] + axes[3 * a + 2] * axes[3 * b + 2];
    }
    return { count, means, words, rows };
  }

  function smallestThree(packed, quat) {
    const largest = packed >>> 30;
    let left = 1;
    for (let axis = 3; axis >= 0; axis--) {
      if (axis === largest) continue;
      const size = (packed & 511) * (Math.SQRT1_2 / 511);
      quat[axis] = packed & 512 ? -size : size;
      left -= size * size;
      packed >>>= 10;
    }
    quat[largest] = Math.sqrt(Math.max(left, 0));
  }

  // -- the order, far to near: on a worker, whose program is this function's own text ------------------------------

  function sorter(scope) {
    let means, depths, keys, order;
    scope.onmessage = ({ data }) => {
      if (data.means) {
        means = data.means;
        depths = new Float32Array(means.length / 3);
        keys = new Uint16Array(depths.length);
        return;
      }
      const [x, y, z] = data.forward, count = depths.length, buckets = new Uint32Array(65537);
      let low = Infinity, high = -Infinity;
      for (let i = 0; i < count; i++) {
        const depth = depths[i] = means[3 * i] * x + means[3 * i + 1] * y + means[3 * i + 2] * z;
        if (depth < low) low = depth;
        if (depth > high) high = depth;
      }
      const factor = 65535 / Math.max(high - low, 1e-9);
      for (let i = 0; i < count; i++) buckets[(keys[i] = (65535 - (depths[i] - low) * factor) | 0) + 1]++;
      for (let k = 1; k < 65537; k++) buckets[k] += buckets[k - 1];
      order = new Uint32Array(count);
      for (let i = count - 1; i >= 0; i--) order[--buckets[keys[i] + 1]] = i;
      scope.postMessage(order, [order.buffer]);
    };
  }

  /** {send, onmessage} of a worker, or of this thread where a browser allows none in a file. */
  function startSorter() {
    try {
      const text = `(${sorter})(self)`;
      return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    } catch {
      const inner = {}, outer = { postMessage: (data) => setTimeout(() => inner.onmessage({ data })) };
      inner.postMessage = (data) => outer.onmessage({ data });
      sorter(inner);
      return outer;
    }
  }

  // -- drawing ----------------------------------------------------------------------------------------------------

  const VERTEX = `#version 300 es
    precision highp float; precision highp int; precision highp usampler2D;
    uniform usampler2D head;
    uniform mat3 turn; uniform vec3 shift; uniform vec2 size; uniform float focal;
    in vec2 corner; in uint index;
    out vec2 offset; out vec4 color;
    uvec4 texel(uint i) { return texelFetch(head, ivec2(i % ${TEXTURE_WIDTH}u, i / ${TEXTURE_WIDTH}u), 0); }
    void main() {
      gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // outside, until it is known to show
      uvec4 first = texel(index * ${TEXELS}u);
      vec4 second = uintBitsToFloat(texel(index * ${TEXELS}u + 1u));
      vec2 third = uintBitsToFloat(texel(index * ${TEXELS}u + 2u).xy);
      color = vec4(first.w & 255u, first.w >> 8 & 255u, first.w >> 16 & 255u, first.w >> 24) / 255.0;
      vec3 point = turn * uintBitsToFloat(first.xyz) + shift;
      if (point.z < 0.01 || color.a < 1.0 / 255.0) return;
      mat3 cov = mat3(second.xyz, second.y, second.w, third.x, second.z, third.x, third.y);
      vec2 slope = clamp(point.xy / point.z, -0.65 * size / focal, 0.65 * size / focal);
      mat3 jacobian = mat3(focal, 0, 0, 0, focal, 0, -focal * slope, 0) / point.z;
      mat3 map = jacobian * turn;
      mat3 flat_cov = map * cov * transpose(map);
      float a = flat_cov[0][0] + 0.3, b = flat_cov[0][1], c = flat_cov[1][1] + 0.3;
      float middle = 0.5 * (a + c), radius = length(vec2(0.5 * (a - c), b));
      float large = middle + radius, small = max(middle - radius, 0.1);
      vec2 axis = abs(b) > 1e-9 ? normalize(vec2(b, large - a)) : a >= c ? vec2(1, 0) : vec2(0, 1);
      float reach = sqrt(2.0 * log(color.a * 255.0));
      offset = corner * reach;
      vec2 pixel = focal * point.xy / point.z
        + offset.x * sqrt(large) * axis + offset.y * sqrt(small) * vec2(-axis.y, axis.x);
      gl_Position = vec4(pixel * vec2(2.0, -2.0) / size, 0.0, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec2 offset; in vec4 color; out vec4 picture;
    void main() {
      float alpha = min(color.a * exp(-0.5 * dot(offset, offset)), 0.999);
      if (alpha < 1.0 / 255.0) discard;
      picture = vec4(color.rgb * alpha, alpha);
    }`;

  function program(gl) {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "no shader");
    return made;
  }

  /** (order or null, camera) => draws. */
  function painter(gl, head) {
    const used = program(gl), place = (name) => gl.getUniformLocation(used, name);
    const places = Object.fromEntries(["turn", "shift", "size", "focal"].map((name) => [name, place(name)]));
    gl.useProgram(used);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, TEXTURE_WIDTH, head.rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, head.words);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(used, "corner"), index = gl.getAttribLocation(used, "index");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, 4 * head.count, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(index, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.clearColor(0, 0, 0, 1);
    return (order, camera) => {
      if (order) gl.bufferSubData(gl.ARRAY_BUFFER, 0, order);
      const { width, height } = canvas;
      gl.viewport(0, 0, width, height);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniformMatrix3fv(places.turn, true, camera.turn);
      gl.uniform3fv(places.shift, camera.shift);
      gl.uniform2f(places.size, width, height);
      gl.uniform1f(places.focal, FOCAL * Math.min(width, height));
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, head.count);
    };
  }

  // -- the camera -------------------------------------------------------------------------------------------------

  /** Start: #yaw,pitch,distance in degrees and metres; without them in front of the face. */
  const start = location.hash.slice(1).split(",").map(Number);
  const home = { yaw: start[0] || 0, pitch: start[1] || 0, distance: start[2] || DISTANCE, x: 0, y: 0 };
  const pose = { ...home };

  /** Rows right, down, forward of the world-to-camera rotation, and its translation. */
  function camera() {
    const yaw = (pose.yaw * Math.PI) / 180, pitch = (pose.pitch * Math.PI) / 180;
    const sy = Math.sin(yaw), cy = Math.cos(yaw), sp = Math.sin(pitch), cp = Math.cos(pitch);
    const forward = [-sy * cp, -sp, -cy * cp], right = [cy, 0, -sy];
    const down = [
      forward[1] * right[2] - forward[2] * right[1],
      forward[2] * right[0] - forward[0] * right[2],
      forward[0] * right[1] - forward[1] * right[0]];
    const rows = [right, down, forward];
    const shift = rows.map((row, k) => -row.reduce((sum, value, i) => sum + value * CENTER[i], 0) + [pose.x, pose.y, pose.distance][k]);
    return { turn: rows.flat(), shift, forward };
  }

  function listen(changed) {
    const pointers = new Map();
    const metres = () => pose.distance / (FOCAL * Math.min(canvas.clientWidth, canvas.clientHeight)); // a CSS pixel
    const closer = (factor) => { pose.distance = Math.min(Math.max(pose.distance * factor, NEAREST), FARTHEST); };
    const turned = (dx, dy) => {
      pose.yaw -= dx;
      pose.pitch = Math.min(Math.max(pose.pitch + dy, -STEEPEST), STEEPEST);
    };
    const shifted = (dx, dy) => { pose.x += dx * metres(); pose.y += dy * metres(); };
    const span = ([a, b]) => ({ size: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    for (const name of ["pointerup", "pointercancel"])
      canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last || pointers.size > 2) return;
      const before = pointers.size === 2 && span([...pointers.values()]);
      const dx = event.clientX - last.x, dy = event.clientY - last.y;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (before) {
        const now = span([...pointers.values()]);
        closer(before.size / Math.max(now.size, 1));
        shifted(now.x - before.x, now.y - before.y);
      } else if (event.shiftKey || event.buttons & 2) shifted(dx, dy);
      else turned(dx * 0.4, dy * 0.4);
      changed();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      closer(Math.exp(Math.min(Math.max(event.deltaY, -100), 100) * 0.002));
      changed();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { Object.assign(pose, home); changed(); });
    const keys = {
      ArrowLeft: () => turned(5, 0), ArrowRight: () => turned(-5, 0), ArrowUp: () => turned(0, 5), ArrowDown: () => turned(0, -5),
      "+": () => closer(0.9), "-": () => closer(1 / 0.9), Home: () => Object.assign(pose, home),
    };
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
      changed();
    });
  }

  // -- all together -----------------------------------------------------------------------------------------------

  async function open() {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!gl) throw new Error("This browser cannot draw in 3D (WebGL 2); try a current one, or allow graphics acceleration.");
    const head = parse(await gunzipped(document.getElementById("head").textContent));
    if (gl.getParameter(gl.MAX_TEXTURE_SIZE) < Math.max(TEXTURE_WIDTH, head.rows)) throw new Error("The head is too large for this device.");
    let paint = painter(gl, head), wanted = false, sorting = false, moved = true, order = null;
    const worker = startSorter();
    const draw = () => {
      wanted = false;
      const view = camera();
      if (moved && !sorting) {
        moved = false;
        sorting = true;
        worker.postMessage({ forward: view.forward });
      }
      if (order) {
        paint(order.fresh ? order.indices : null, view);
        order.fresh = false;
        state(moved || sorting ? "drawn" : "ready", "");
      }
    };
    const redraw = () => { if (!wanted) { wanted = true; requestAnimationFrame(draw); } };
    worker.onmessage = ({ data }) => { sorting = false; order = { indices: data, fresh: true }; redraw(); };
    worker.postMessage({ means: head.means });
    listen(() => { moved = true; state("drawn", ""); redraw(); });
    new ResizeObserver(() => {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
      redraw();
    }).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { paint = painter(gl, head); if (order) order.fresh = true; redraw(); });
  }

  state("opening", message.textContent);
  open().catch((error) => state("failed", String(error.message || error)));
})();
