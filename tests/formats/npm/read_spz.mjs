// Reads an SPZ file with @adobe/spz and writes what it saw as float32 arrays, in RUB.
// Usage: node read_spz.mjs IN.spz OUT.bin   Output: u32 count, then positions 3N, scales 3N (ln),
// rotations 4N (xyzw), alphas N (logit), colors 3N (SH degree 0).
import { readFileSync, writeFileSync } from 'node:fs';
import createSpz from '@adobe/spz';

const [source, target] = process.argv.slice(2);
const spz = await createSpz();
const cloud = await spz.loadSpzFromBuffer(new Uint8Array(readFileSync(source)), { to: spz.CoordinateSystem.RUB });
const parts = [cloud.positions, cloud.scales, cloud.rotations, cloud.alphas, cloud.colors];
const bytes = parts.map((part) => Buffer.from(Float32Array.from(part).buffer));
writeFileSync(target, Buffer.concat([Buffer.from(Uint32Array.of(cloud.numPoints).buffer), ...bytes]));
