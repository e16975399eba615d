// Compositing of one tile, front to back, and its gradient, back to front; included by kernels.cpp.
// A tile's sixteen blocks of 4x4 pixels are sixteen vectors: small round Gaussians fill such a block better than a row.

namespace {

// A Gaussian within a tile. Its exponent is lo - t1^2 - t2^2 with t1 = p dx + r dy, t2 = s dy, both linear in the block.
struct Brush {
  F dx, dy, t1, t2, p4, r4, s4, lo;
  unsigned touched;  // blocks where alpha can reach 1/255: bounds t1 and t2 over a block, one lane a block

  HL_MEMBER explicit Brush(const Splat& g, float tile_x, float tile_y) {
    const F mx = bc(g.mx - tile_x), my = bc(g.my - tile_y), p = bc(g.p), r = bc(g.r), s = bc(g.s);
    lo = bc(g.lo);
    const F cx = mx - load(kBlockCentreX), cy = my - load(kBlockCentreY), zero = bc(0.0f), half = bc(1.5f);
    const F low1 = max(fnma(half, p + abs(r), abs(fma(p, cx, r * cy))), zero);
    const F low2 = max(fnma(half, s, abs(s * cy)), zero);
    touched = bits(fnma(low1, low1, fnma(low2, low2, lo)) >= bc(kLogMinAlpha - 1e-3f));
    dx = mx - load(kBlockX), dy = my - load(kBlockY);
    t1 = fma(p, dx, r * dy), t2 = s * dy;
    p4 = p * bc(4.0f), r4 = r * bc(4.0f), s4 = s * bc(4.0f);
  }

  // log2 of alpha in block b.
  HL_MEMBER F exponent(int b) const {
    const F column = bc(kColumn[b]), row = bc(kRow[b]);
    const F t = fnma(p4, column, fnma(r4, row, t1)), u = fnma(s4, row, t2);
    return fnma(t, t, fnma(u, u, lo));
  }
};

// Copies one channel of a tile between blocks and the rows of a picture, leaving out what lies beyond its edge.
HL_INLINE void blocks_to_rows(const Picture& pic, int tile_x, int tile_y, const F* blocks, float* plane) {
  alignas(64) float block[16];
  for (int b = 0; b < kBlocks; ++b) {
    const int x = tile_x + 4 * (b & 3), y = tile_y + 4 * (b >> 2);
    store(block, blocks[b]);
    const int columns = pic.width - x < 4 ? pic.width - x : 4, rows = pic.height - y < 4 ? pic.height - y : 4;
    for (int j = 0; j < rows; ++j) {
      float* to = plane + static_cast<int64_t>(y + j) * pic.width + x;
      if (columns == 4) memcpy(to, block + 4 * j, 16);
      else for (int i = 0; i < columns; ++i) to[i] = block[4 * j + i];
    }
  }
}

HL_INLINE void rows_to_blocks(const Picture& pic, int tile_x, int tile_y, const float* plane, F* blocks) {
  for (int b = 0; b < kBlocks; ++b) {
    alignas(64) float block[16] = {};
    const int x = tile_x + 4 * (b & 3), y = tile_y + 4 * (b >> 2);
    const int columns = pic.width - x < 4 ? pic.width - x : 4, rows = pic.height - y < 4 ? pic.height - y : 4;
    if (plane) {
      for (int j = 0; j < rows; ++j) {
        const float* from = plane + static_cast<int64_t>(y + j) * pic.width + x;
        if (columns == 4) memcpy(block + 4 * j, from, 16);
        else for (int i = 0; i < columns; ++i) block[4 * j + i] = from[i];
      }
    }
    blocks[b] = load(block);
  }
}

template <bool kKeep>
void draw_tile(const Picture& pic, int32_t tile, const HlViews& out) {
  const int tile_x = tile % pic.tiles_x * kTile, tile_y = tile / pic.tiles_x * kTile;
  const F zero = bc(0.0f), one = bc(1.0f), least = bc(kLogMinAlpha), most = bc(kMaxAlpha), stop = bc(kMinTransmittance);
  // A pixel that is done keeps its transmittance with the sign turned.
  F T[kBlocks], red[kBlocks], green[kBlocks], blue[kBlocks], depth[kBlocks], last[kBlocks];
  unsigned alive = 0;
  for (int b = 0; b < kBlocks; ++b) {
    red[b] = green[b] = blue[b] = depth[b] = zero;
    last[b] = bc(-1.0f);
    const F x = load(kBlockX) + bc(static_cast<float>(tile_x + 4 * (b & 3)));
    const F y = load(kBlockY) + bc(static_cast<float>(tile_y + 4 * (b >> 2)));
    const M inside = (bc(static_cast<float>(pic.width)) > x) & (bc(static_cast<float>(pic.height)) > y);
    T[b] = select(inside, one, zero - one);
    if (any(inside)) alive |= 1u << b;
  }
  const uint32_t begin = pic.offsets[tile], count = pic.offsets[tile + 1] - begin;
  const Entry* list = pic.list + begin;
  uint32_t k = 0;
  for (; k < count && alive; ++k) {
    __builtin_prefetch(pic.splats + list[k + 6 < count ? k + 6 : k].splat);
    const Splat& splat = pic.splats[list[k].splat];
    const Brush g(splat, static_cast<float>(tile_x), static_cast<float>(tile_y));
    const F cr = bc(splat.red), cg = bc(splat.green), cb = bc(splat.blue), cz = bc(splat.z);
    unsigned hit = 0;
    for (unsigned todo = g.touched & alive; todo; todo &= todo - 1) {
      const int b = __builtin_ctz(todo);
      const F e = g.exponent(b), before = T[b];
      const M open = (e >= least) & (before > zero);
      if (!any(open)) continue;
      const F alpha = min(exp2(e), most), after = fnma(alpha, before, before);
      const M drawn = open & (after > stop);
      const F weight = keep(drawn, alpha * before);
      red[b] = fma(weight, cr, red[b]);
      green[b] = fma(weight, cg, green[b]);
      blue[b] = fma(weight, cb, blue[b]);
      depth[b] = fma(weight, cz, depth[b]);
      T[b] = select(drawn, after, before);
      if (kKeep) {
        last[b] = select(drawn, bc(static_cast<float>(k)), last[b]);
        hit |= static_cast<unsigned>(any(drawn)) << b;
      }
      const M done = andnot(open, drawn);
      if (any(done)) {
        T[b] = select(done, zero - before, T[b]);
        if (!any(T[b] > zero)) alive &= ~(1u << b);
      }
    }
    if (kKeep) pic.hits[begin + k] = static_cast<uint16_t>(hit);
  }
  const int64_t plane = static_cast<int64_t>(pic.width) * pic.height;
  blocks_to_rows(pic, tile_x, tile_y, red, out.rgb);
  blocks_to_rows(pic, tile_x, tile_y, green, out.rgb + plane);
  blocks_to_rows(pic, tile_x, tile_y, blue, out.rgb + 2 * plane);
  for (int b = 0; b < kBlocks; ++b) {
    T[b] = abs(T[b]);
    if (kKeep) {
      store(pic.final_T + static_cast<int64_t>(tile) * kTilePixels + 16 * b, T[b]);
      store(pic.last + static_cast<int64_t>(tile) * kTilePixels + 16 * b, last[b]);
    }
    const F alpha = one - T[b];
    depth[b] = depth[b] / max(alpha, bc(1e-10f));
    T[b] = alpha;
  }
  blocks_to_rows(pic, tile_x, tile_y, T, out.alpha);
  blocks_to_rows(pic, tile_x, tile_y, depth, out.depth);
  if (kKeep) pic.visited[tile] = k;
}

void draw(const Picture& pic, int32_t tile, const HlViews& out) {
  if (pic.hits) draw_tile<true>(pic, tile, out);
  else draw_tile<false>(pic, tile, out);
}

template <bool kColor, bool kDepth>
void draw_tile_backward(const Picture& pic, int32_t tile, const HlViewGrads& grads, const Moments& moments) {
  const uint32_t visited = pic.visited[tile];
  if (!visited) return;
  const int tile_x = tile % pic.tiles_x * kTile, tile_y = tile / pic.tiles_x * kTile;
  const int64_t plane = static_cast<int64_t>(pic.width) * pic.height;
  const F zero = bc(0.0f), one = bc(1.0f), least = bc(kLogMinAlpha), most = bc(kMaxAlpha), four = bc(4.0f);
  F T[kBlocks], behind[kBlocks], rest[kBlocks], vr[kBlocks], vg[kBlocks], vb[kBlocks], vz[kBlocks], last[kBlocks];
  if (kColor) {
    rows_to_blocks(pic, tile_x, tile_y, grads.rgb, vr);
    rows_to_blocks(pic, tile_x, tile_y, grads.rgb + plane, vg);
    rows_to_blocks(pic, tile_x, tile_y, grads.rgb + 2 * plane, vb);
  }
  rows_to_blocks(pic, tile_x, tile_y, grads.alpha, rest);
  if (kDepth) {
    rows_to_blocks(pic, tile_x, tile_y, grads.depth, vz);
    rows_to_blocks(pic, tile_x, tile_y, grads.depth_out, behind);
  }
  unsigned live = 0;  // blocks of which the loss knows anything
  for (int b = 0; b < kBlocks; ++b) {
    M known = rest[b] != zero;
    if (kColor) known = known | (vr[b] != zero) | (vg[b] != zero) | (vb[b] != zero);
    if (kDepth) known = known | (vz[b] != zero);
    live |= static_cast<unsigned>(any(known)) << b;
    T[b] = load(pic.final_T + static_cast<int64_t>(tile) * kTilePixels + 16 * b);
    last[b] = load(pic.last + static_cast<int64_t>(tile) * kTilePixels + 16 * b);
    if (kDepth) {  // depth = sum(w z) / alpha
      vz[b] = vz[b] / max(one - T[b], bc(1e-10f));
      rest[b] = fnma(vz[b], behind[b], rest[b]);
    }
    rest[b] = rest[b] * T[b];
    behind[b] = zero;
  }
  const uint32_t begin = pic.offsets[tile];
  for (uint32_t k = visited; k-- > 0;) {
    const unsigned hit = pic.hits[begin + k] & live;
    if (!hit) continue;
    if (k >= 6) __builtin_prefetch(pic.splats + pic.list[begin + k - 6].splat);
    const Entry entry = pic.list[begin + k];
    const Splat& splat = pic.splats[entry.splat];
    const Brush g(splat, static_cast<float>(tile_x), static_cast<float>(tile_y));
    const F cr = bc(splat.red), cg = bc(splat.green), cb = bc(splat.blue), cz = bc(splat.z), place = bc(static_cast<float>(k));
    F sum[10];
    for (F& s : sum) s = zero;
    for (unsigned todo = hit; todo; todo &= todo - 1) {
      const int b = __builtin_ctz(todo);
      const F e = g.exponent(b);
      const M drawn = (e >= least) & (last[b] >= place);
      const F raw = exp2(e), alpha = min(raw, most), undo = recip(one - alpha);
      const F before = select(drawn, T[b] * undo, T[b]), weight = keep(drawn, alpha * before);
      T[b] = before;
      F shade = zero;
      if (kColor) {
        sum[6] = fma(weight, vr[b], sum[6]);
        sum[7] = fma(weight, vg[b], sum[7]);
        sum[8] = fma(weight, vb[b], sum[8]);
        shade = fma(cr, vr[b], fma(cg, vg[b], cb * vb[b]));
      }
      if (kDepth) {
        sum[9] = fma(weight, vz[b], sum[9]);
        shade = fma(cz, vz[b], shade);
      }
      F v_alpha = undo * rest[b];
      if (kColor || kDepth) {
        v_alpha = fma(before, shade, undo * (rest[b] - behind[b]));
        behind[b] = fma(weight, shade, behind[b]);
      }
      const F v = keep(drawn & (most >= raw), raw * v_alpha);
      const F dx = fnma(four, bc(kColumn[b]), g.dx), dy = fnma(four, bc(kRow[b]), g.dy), vx = v * dx, vy = v * dy;
      sum[0] = sum[0] + v;
      sum[1] = sum[1] + vx;
      sum[2] = sum[2] + vy;
      sum[3] = fma(vx, dx, sum[3]);
      sum[4] = fma(vx, dy, sum[4]);
      sum[5] = fma(vy, dy, sum[5]);
    }
    store_sums(moments.lines + static_cast<int64_t>(entry.slot) * kGradLine, sum);
    moments.drawn[entry.slot] = 1;
  }
}

void draw_backward(const Picture& pic, int32_t tile, const HlViewGrads& grads, const Moments& moments) {
  if (!grads.rgb && !grads.depth) draw_tile_backward<false, false>(pic, tile, grads, moments);
  else if (!grads.depth) draw_tile_backward<true, false>(pic, tile, grads, moments);
  else if (!grads.rgb) draw_tile_backward<false, true>(pic, tile, grads, moments);
  else draw_tile_backward<true, true>(pic, tile, grads, moments);
}

}  // namespace
