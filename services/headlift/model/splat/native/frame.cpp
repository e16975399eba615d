// Projection, a stable radix sort by depth, and tile lists, each shared among the workers without locks: every worker owns
// a contiguous share and writes behind those of the workers before it, so that the order never depends on timing.
#include "frame.h"

#include <algorithm>
#include <cstring>

namespace headlift {
namespace {

constexpr int kDigitBits = 11;
constexpr int kDigits = 1 << kDigitBits;
constexpr uint64_t kMaxEntries = uint64_t{1} << 25;  // 2 GB of gradient lines

// What all workers agree on after projection.
struct Depths {
  uint32_t count = 0, key_min = ~0u, key_max = 0;
  bool bad_values = false;
  uint64_t entries = 0;
};

Depths merge(const std::vector<Visible>& parts, int workers) {
  Depths all;
  for (int w = 0; w < workers; ++w) {
    all.count += parts[w].count;
    all.key_min = std::min(all.key_min, parts[w].key_min);
    all.key_max = std::max(all.key_max, parts[w].key_max);
    all.entries += parts[w].entries;
    all.bad_values = all.bad_values || parts[w].bad_values;
  }
  return all;
}

// One worker's part of one pass: moves `count` entries to their places by the digit at `shift`.
void radix_pass(const Worker& worker, Scratch& scratch, int from, uint32_t begin, uint32_t count, uint32_t key_min, int shift) {
  const uint32_t *keys = scratch.keys[from].get() + begin, *ids = scratch.ids[from].get() + begin;
  uint32_t *out_keys = scratch.keys[1 - from].get(), *out_ids = scratch.ids[1 - from].get();
  uint32_t* mine = scratch.histogram.get() + static_cast<size_t>(worker.id) * kDigits;
  std::memset(mine, 0, kDigits * sizeof *mine);
  for (uint32_t i = 0; i < count; ++i) ++mine[(keys[i] - key_min) >> shift & (kDigits - 1)];
  worker.sync();
  if (worker.id == 0) {
    uint32_t sum = 0;
    for (int digit = 0; digit < kDigits; ++digit) {
      for (int w = 0; w < worker.count; ++w) {
        uint32_t& slot = scratch.histogram.get()[static_cast<size_t>(w) * kDigits + digit];
        const uint32_t n = slot;
        slot = sum;
        sum += n;
      }
    }
  }
  worker.sync();
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t at = mine[(keys[i] - key_min) >> shift & (kDigits - 1)]++;
    out_keys[at] = keys[i];
    out_ids[at] = ids[i];
  }
  worker.sync();
}

// Sorts by depth; returns which of the two buffers holds the result. At least one pass, which closes the gaps between
// the workers' shares.
int sort_by_depth(const Worker& worker, Scratch& scratch, const Depths& depths, int64_t scene_count) {
  const uint32_t span = depths.count ? depths.key_max - depths.key_min : 0;
  int from = 0;
  for (int shift = 0; shift == 0 || (shift < 32 && span >> shift); shift += kDigitBits) {
    const bool first = shift == 0;
    const auto begin = static_cast<uint32_t>(first ? worker.begin(scene_count) : worker.begin(depths.count));
    const uint32_t count = first ? scratch.visible[worker.id].count : static_cast<uint32_t>(worker.end(depths.count)) - begin;
    radix_pass(worker, scratch, from, begin, count, depths.key_min, shift);
    from = 1 - from;
  }
  return from;
}

template <class Visit>
void each_tile(const Footprint& range, int32_t tiles_x, Visit&& visit) {
  for (int y = range.y0; y < range.y1; ++y)
    for (int x = range.x0; x < range.x1; ++x) visit(y * tiles_x + x);
}

// Turns the workers' counts of each tile into places in the list.
void place(Frame& frame, uint32_t* counts, int workers) {
  const int32_t tiles = frame.tiles();
  uint32_t sum = 0;
  for (int32_t t = 0; t < tiles; ++t) {
    frame.offsets.get()[t] = sum;
    for (int w = 0; w < workers; ++w) {
      uint32_t& slot = counts[static_cast<size_t>(w) * tiles + t];
      const uint32_t n = slot;
      slot = sum;
      sum += n;
    }
  }
  frame.offsets.get()[tiles] = sum;
}

}  // namespace

Picture Frame::picture(bool kept) const {
  return {width,       height,      tiles_x,                    tiles_y,       splats.get(),  offsets.get(),
          list.get(),  footprints.get(), kept ? hits.get() : nullptr, visited.get(), final_T.get(), last.get()};
}

Lens make_lens(const float* viewmat, const float* K, int32_t width, int32_t height) {
  Lens lens;
  for (int r = 0; r < 3; ++r) {
    for (int k = 0; k < 3; ++k) lens.R[r][k] = viewmat[4 * r + k];
    lens.t[r] = viewmat[4 * r + 3];
  }
  lens.fx = K[0], lens.cx = K[2], lens.fy = K[4], lens.cy = K[5];
  lens.width = static_cast<float>(width), lens.height = static_cast<float>(height);
  lens.x_min = -(0.15f * lens.width + lens.cx) / lens.fx, lens.x_max = (1.15f * lens.width - lens.cx) / lens.fx;
  lens.y_min = -(0.15f * lens.height + lens.cy) / lens.fy, lens.y_max = (1.15f * lens.height - lens.cy) / lens.fy;
  return lens;
}

bool arrange(const Worker& worker, const Kernels& kernels, const HlScene& scene, bool kept, Frame& frame, Scratch& scratch,
             HlStatus* status) {
  const auto n = static_cast<size_t>(scene.count), tiles = static_cast<size_t>(frame.tiles());
  if (!worker.once([&] {
        frame.splats.need(n + 1);  // list entries beyond a tile's end may be prefetched, never read
        frame.offsets.need(tiles + 1);
        for (int i = 0; i < 2; ++i) scratch.keys[i].need(n), scratch.ids[i].need(n);
        scratch.histogram.need(static_cast<size_t>(worker.count) * kDigits);
        scratch.tile_counts.need(static_cast<size_t>(worker.count) * tiles);
        scratch.visible.resize(static_cast<size_t>(worker.count));
        frame.footprints.need(n);
      }))
    return false;

  const int64_t begin = worker.begin(scene.count), end = worker.end(scene.count);
  scratch.visible[worker.id] = kernels.project(scene, frame.lens, begin, end, frame.splats.get(), frame.footprints.get(),
                                               scratch.keys[0].get() + begin, scratch.ids[0].get() + begin);
  worker.sync();
  const Depths depths = merge(scratch.visible, worker.count);
  if (depths.bad_values || depths.entries > kMaxEntries) {
    if (worker.id == 0) *status = depths.bad_values ? HL_BAD_VALUES : HL_TOO_MANY_TILES;
    return false;
  }
  Footprint* footprints = frame.footprints.get();
  uint32_t slots_before = 0;
  for (int w = 0; w < worker.id; ++w) slots_before += static_cast<uint32_t>(scratch.visible[w].entries);
  for (int64_t i = begin; i < end; ++i) footprints[i].first_slot += slots_before;
  const int sorted = sort_by_depth(worker, scratch, depths, scene.count);

  const uint32_t* ids = scratch.ids[sorted].get();
  uint32_t* counts = scratch.tile_counts.get() + worker.id * tiles;
  const int64_t first = worker.begin(depths.count), stop = worker.end(depths.count);
  std::memset(counts, 0, tiles * sizeof *counts);
  for (int64_t k = first; k < stop; ++k) each_tile(footprints[ids[k]], frame.tiles_x, [&](int t) { ++counts[t]; });
  if (!worker.once([&] {
        place(frame, scratch.tile_counts.get(), worker.count);
        frame.list.need(depths.entries + 1);
        if (kept) {
          frame.hits.need(depths.entries + 1);
          frame.visited.need(tiles);
          frame.final_T.need(tiles * kTilePixels);
          frame.last.need(tiles * kTilePixels);
        }
      }))
    return false;
  Entry* list = frame.list.get();
  for (int64_t k = first; k < stop; ++k) {
    const uint32_t id = ids[k];
    uint32_t slot = footprints[id].first_slot;
    each_tile(footprints[id], frame.tiles_x, [&](int t) { list[counts[t]++] = {id, slot++}; });
  }
  worker.sync();
  return true;
}

}  // namespace headlift
