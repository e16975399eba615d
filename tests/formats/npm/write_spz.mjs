// Writes an SPZ file with @adobe/spz from the arrays that read_spz.mjs would yield.
// Usage: node write_spz.mjs IN.bin OUT.spz VERSION FRAME SH_DEGREE   FRAME: how the arrays are meant, such as RUB.
import { readFileSync, writeFileSync } from 'node:fs';
import createSpz from '@adobe/spz';

const [source, target, version, frame, degree] = process.argv.slice(2);
const data = readFileSync(source);
const numPoints = data.readUInt32LE(0);
const floats = new Float32Array(data.buffer.slice(data.byteOffset + 4, data.byteOffset + data.length));
let start = 0;
const take = (width) => floats.slice(start, (start += width * numPoints));
const spz = await createSpz();
const shDegree = Number(degree);
const cloud = {
  numPoints,
  shDegree,
  antialiased: false,
  extensions: [],
  positions: take(3),
  scales: take(3),
  rotations: take(4),
  alphas: take(1),
  colors: take(3),
  sh: new Float32Array(numPoints * [0, 9, 24, 45][shDegree]).fill(0.25),
};
const options = { version: Number(version), from: spz.CoordinateSystem[frame], sh1Bits: 5, shRestBits: 4 };
writeFileSync(target, spz.saveSpzToBuffer(cloud, options));
