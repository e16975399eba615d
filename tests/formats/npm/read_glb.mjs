// Reads a GLB file with @gltf-transform/core and judges it with Khronos' gltf-validator.
// Usage: node read_glb.mjs IN.glb OUT.json   Output: every attribute of every primitive, the extensions, the node's scale, the verdict.
import { readFileSync, writeFileSync } from 'node:fs';
import { Logger, WebIO } from '@gltf-transform/core';
import validator from 'gltf-validator';

const [source, target] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(source));
const io = new WebIO().setLogger(new Logger(Logger.Verbosity.SILENT));
const { json } = await io.binaryToJSON(bytes);
const document = await io.readBinary(bytes);
const primitives = document.getRoot().listMeshes().flatMap((mesh) => mesh.listPrimitives());
const attributes = primitives.map((primitive) =>
  Object.fromEntries(
    primitive.listSemantics().map((name) => {
      const accessor = primitive.getAttribute(name);
      const values = Array.from({ length: accessor.getCount() }, (_, i) => accessor.getElement(i, []));
      return [name, values];
    }),
  ),
);
const scale = document.getRoot().listNodes()[0].getScale();
const report = await validator.validateBytes(bytes, { maxIssues: 100 });
const extensions = json.meshes.flatMap((mesh) => mesh.primitives.map((primitive) => primitive.extensions));
writeFileSync(target, JSON.stringify({ attributes, extensions, scale, mode: primitives[0].getMode(), issues: report.issues }));
