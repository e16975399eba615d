// Walks through the sharpening network, layer by layer. Where a view is black as far as the network sees, its answer is
// one constant for each phase of the unshuffling: such tiles are computed once and copied.
#include <algorithm>
#include <memory>

#include "frame.h"

namespace headlift {

namespace {

struct Memory {
  Buffer<float> bands, first, inner, outer, residual, work;
  Buffer<uint32_t> places;
};

int32_t up(int32_t n, int32_t step) { return (n + step - 1) / step; }

// A plane whose frame of zeros stands; one tile may be read beyond its right and lower end.
Plane make_plane(Buffer<float>& buffer, int32_t width, int32_t height, int32_t channels) {
  const int64_t row = static_cast<int64_t>(width + 2) * channels;
  buffer.need(static_cast<size_t>(row * (height + 2 + kConvTile) + kConvTile * channels));
  Plane plane{buffer.get(), width, height, channels};
  std::fill_n(plane.data, row, 0.0f);
  for (int32_t y = 0; y < height; ++y) {
    std::fill_n(at(plane, -1, y), channels, 0.0f);
    std::fill_n(at(plane, width, y), channels, 0.0f);
  }
  std::fill(at(plane, -1, height), at(plane, -1, height) + row * (1 + kConvTile) + kConvTile * channels, 0.0f);
  return plane;
}

struct Job {
  const Kernels& kernels;
  const HlSharpener& net;
  Memory& memory;
  const float* pictures;
  float* out;
  int32_t count, width, height;
};

void sharpen_one(const Worker& worker, const Job& job, const Plane& bands, std::vector<Convolution>& layers,
                 std::atomic<uint32_t>& next, int64_t index, float* work) {
  const int64_t offset = index * 3 * job.width * job.height;
  const float* picture = job.pictures + offset;
  const uint32_t tiles = static_cast<uint32_t>(up(bands.width, kConvTile) * up(bands.height, kConvTile));
  const auto fresh = [&] {
    worker.sync();
    if (worker.id == 0) next.store(0);
    worker.sync();
  };
  fresh();
  for (uint32_t y; (y = next.fetch_add(1)) < static_cast<uint32_t>(bands.height);)
    job.kernels.split_bands(job.net, picture, job.width, job.height, static_cast<int32_t>(y), work, bands);
  for (const Convolution& layer : layers) {
    fresh();
    for (uint32_t at; (at = next.fetch_add(kConvBatch)) < tiles;)
      job.kernels.convolve(layer, job.memory.places.get() + at, static_cast<int>(std::min<uint32_t>(kConvBatch, tiles - at)), work);
  }
  fresh();
  for (uint32_t y; (y = next.fetch_add(1)) < static_cast<uint32_t>(bands.height);)
    job.kernels.subtract(job.net, layers.back().out, picture, job.width, job.height, static_cast<int32_t>(y), job.out + offset);
}

HlStatus sharpen(const Job& job, int threads) {
  const HlSharpener& net = job.net;
  const HlConvolution &first = net.convolutions[0], &last = net.convolutions[net.count - 1];
  const int32_t width = up(job.width, net.unshuffle), height = up(job.height, net.unshuffle);
  const Plane bands = make_plane(job.memory.bands, width, height, first.inputs);
  const Plane skip = make_plane(job.memory.first, width, height, first.outputs);
  const Plane inner = make_plane(job.memory.inner, width, height, first.outputs);
  const Plane outer = make_plane(job.memory.outer, width, height, first.outputs);
  const Plane residual = make_plane(job.memory.residual, width, height, last.outputs);
  std::vector<Convolution> layers{{first, bands, skip, nullptr, nullptr, true}};
  const Plane* block = &skip;
  for (int32_t i = 1; i + 1 < net.count; i += 2) {
    layers.push_back({net.convolutions[i], *block, inner, nullptr, nullptr, true});
    layers.push_back({net.convolutions[i + 1], inner, outer, block, i + 3 >= net.count ? &skip : nullptr, true});
    block = &outer;
  }
  layers.push_back({last, *block, residual, nullptr, nullptr, false});
  const uint32_t tiles = static_cast<uint32_t>(up(width, kConvTile) * up(height, kConvTile));
  job.memory.places.need(tiles);
  for (uint32_t t = 0; t < tiles; ++t) job.memory.places.get()[t] = t;

  size_t floats = 2 * static_cast<size_t>(job.width + 2 * net.radius + 32);
  for (const Convolution& layer : layers)
    floats = std::max(floats, static_cast<size_t>(36 * kConvBatch) * static_cast<size_t>(layer.net.inputs + layer.net.outputs));
  floats = (floats + 31) / 16 * 16;
  job.memory.work.need(floats * static_cast<size_t>(threads));
  std::atomic<uint32_t> next{0};
  const bool fits = run_team(threads, [&](const Worker& worker) {
    for (int64_t i = 0; i < job.count; ++i)
      sharpen_one(worker, job, bands, layers, next, i, job.memory.work.get() + floats * static_cast<size_t>(worker.id));
  });
  return fits ? HL_OK : HL_NO_MEMORY;
}

}  // namespace
}  // namespace headlift

extern "C" {

void* hl_sharpen_memory() { return new (std::nothrow) headlift::Memory; }

void hl_sharpen_release(void* memory) { delete static_cast<headlift::Memory*>(memory); }

int32_t hl_sharpen(const HlSharpener* net, const float* pictures, float* out, int32_t count, int32_t width, int32_t height,
                   void* memory, int32_t threads, int32_t isa) {
  using namespace headlift;
  const Kernels* kernels = kernels_of(isa);
  if (!kernels) return HL_NO_SUCH_ISA;
  if (!memory) return HL_NO_MEMORY;
  try {
    return sharpen({*kernels, *net, *static_cast<Memory*>(memory), pictures, out, count, width, height}, threads);
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  }
}
}
