// Walks through the sharpening network, layer by layer, the tiles of a layer shared among the workers.
#include <algorithm>
#include <cstring>
#include <utility>

#include "frame.h"

namespace headlift {

namespace {

struct Memory {
  Buffer<float> bands, first, inner, outer, residual, work;
  std::vector<uint8_t> distances, needed;  // see Coverage
  std::vector<std::vector<uint32_t>> computed, copied;
  std::vector<std::pair<int32_t, int32_t>> spans;
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

// Which tiles are computed in which layer. Where all is black as far as a layer sees, its values are the same in every
// tile: they are computed in one of them and copied to those that a later layer reads.
class Coverage {
 public:
  Coverage(Memory& memory, const HlSharpener& net, int32_t width, int32_t height)
      : memory_(memory), net_(net), width_(width), height_(height), columns_(up(width, kConvTile)), rows_(up(height, kConvTile)) {
    memory.distances.resize(static_cast<size_t>(columns_) * rows_);
    memory.computed.resize(static_cast<size_t>(net.count));
    memory.copied.resize(static_cast<size_t>(net.count));
    memory.spans.resize(static_cast<size_t>(rows_));
  }

  int32_t rows() const { return rows_; }
  uint32_t model() const { return model_; }

  // Notes which tiles of a row of them are not black; pixels in `picture`, which is `wide` by `high`.
  void look(const float* picture, int32_t wide, int32_t high, int32_t row) {
    const int32_t side = kConvTile * net_.unshuffle, top = row * side, bottom = std::min(high, top + side);
    uint8_t* distances = memory_.distances.data() + static_cast<size_t>(row) * columns_;
    for (int32_t x = 0; x < columns_; ++x) {
      uint32_t any = 0;
      const int32_t left = x * side, right = std::min(wide, left + side);
      for (int32_t c = 0; c < 3; ++c)
        for (int32_t y = top; y < bottom; ++y)
          for (int32_t i = left; i < right; ++i) {
            uint32_t bits;
            std::memcpy(&bits, picture + (static_cast<int64_t>(c) * high + y) * wide + i, sizeof bits);
            any |= bits;
          }
      distances[x] = any ? 0 : kFar;
    }
  }

  // Makes the lists, once all rows were looked at.
  void plan() {
    const int32_t last = net_.count - 1, tiles = columns_ * rows_;
    for (int32_t step = 0; step < reach(last); ++step) grow(memory_.distances, static_cast<uint8_t>(step));
    model_ = kNone;
    for (int32_t t = 0; t < tiles && model_ == kNone; ++t)
      if (!active(t, last)) model_ = static_cast<uint32_t>(t);
    memory_.needed.assign(static_cast<size_t>(tiles), kFar);
    for (int32_t t = 0; t < tiles; ++t)
      if (active(t, last) || static_cast<uint32_t>(t) == model_) memory_.needed[t] = 0;
    grow(memory_.needed, 0);
    for (int32_t l = 0; l <= last; ++l) {
      auto &computed = memory_.computed[l], &copied = memory_.copied[l];
      computed.clear(), copied.clear();
      for (int32_t t = 0; t < tiles; ++t) {
        // Without a tile to copy from, which only a wholly black one of the last layer can be, all are computed.
        if (model_ == kNone || active(t, l) || static_cast<uint32_t>(t) == model_) computed.push_back(static_cast<uint32_t>(t));
        else if (l == last || memory_.needed[t] != kFar) copied.push_back(static_cast<uint32_t>(t));
      }
    }
    for (int32_t y = 0; y < rows_; ++y) {
      memory_.spans[y] = {width_, 0};
      for (int32_t x = 0; x < columns_; ++x) {
        if (memory_.needed[y * columns_ + x] == kFar) continue;
        memory_.spans[y].first = std::min(memory_.spans[y].first, x * kConvTile);
        memory_.spans[y].second = std::min(width_, (x + 1) * kConvTile);
      }
    }
  }

  // Copies the model tile to tile t.
  void copy(const Plane& plane, uint32_t t) const {
    const auto columns = static_cast<uint32_t>(columns_);
    const auto x = static_cast<int32_t>(t % columns) * kConvTile, y = static_cast<int32_t>(t / columns) * kConvTile;
    const auto model_x = static_cast<int32_t>(model_ % columns) * kConvTile, model_y = static_cast<int32_t>(model_ / columns) * kConvTile;
    const int32_t wide = std::min(kConvTile, width_ - x), high = std::min(kConvTile, height_ - y);
    for (int32_t j = 0; j < high; ++j)
      std::memcpy(at(plane, x, y + j), at(plane, model_x, model_y + j), sizeof(float) * static_cast<size_t>(wide * plane.channels));
  }

 private:
  static constexpr uint8_t kFar = 255;
  static constexpr uint32_t kNone = ~0u;

  // Tiles from which a layer's values still come.
  int32_t reach(int32_t layer) const { return up(net_.radius + (layer + 1) * net_.unshuffle, kConvTile * net_.unshuffle); }

  bool active(int32_t t, int32_t layer) const {
    const int32_t x = t % columns_ * kConvTile, y = t / columns_ * kConvTile, edge = layer + 1;  // zeros around the picture
    return memory_.distances[t] <= reach(layer) || x < edge || y < edge || x + kConvTile > width_ - edge ||
           y + kConvTile > height_ - edge;
  }

  // Gives the neighbours of what is `from` far the next distance.
  void grow(std::vector<uint8_t>& distances, uint8_t from) const {
    for (int32_t y = 0; y < rows_; ++y)
      for (int32_t x = 0; x < columns_; ++x) {
        if (distances[y * columns_ + x] != from) continue;
        for (int32_t j = std::max(0, y - 1); j <= std::min(rows_ - 1, y + 1); ++j)
          for (int32_t i = std::max(0, x - 1); i <= std::min(columns_ - 1, x + 1); ++i)
            if (distances[j * columns_ + i] == kFar) distances[j * columns_ + i] = static_cast<uint8_t>(from + 1);
      }
  }

  Memory& memory_;
  const HlSharpener& net_;
  int32_t width_, height_, columns_, rows_;
  uint32_t model_ = kNone;
};

struct Job {
  const Kernels& kernels;
  const HlSharpener& net;
  Memory& memory;
  const float* pictures;
  float* out;
  int32_t count, width, height;
};

// Hands 0..count, `step` at a time, to whoever is free, and waits until all is done.
template <class Step>
void share(const Worker& worker, std::atomic<uint32_t>& next, size_t count, uint32_t step, Step&& take) {
  for (uint32_t i; (i = next.fetch_add(step)) < count;) take(i);
  worker.sync();
  if (worker.id == 0) next.store(0);
  worker.sync();
}

void sharpen_one(const Worker& worker, const Job& job, Coverage& coverage, const Plane& bands,
                 const std::vector<Convolution>& layers, std::atomic<uint32_t>& next, int64_t index, float* work) {
  const int64_t offset = index * 3 * job.width * job.height;
  const float* picture = job.pictures + offset;
  const auto height = static_cast<size_t>(bands.height);
  share(worker, next, static_cast<size_t>(coverage.rows()), 1, [&](uint32_t row) {
    coverage.look(picture, job.width, job.height, static_cast<int32_t>(row));
  });
  if (!worker.once([&] { coverage.plan(); })) return;
  share(worker, next, height, 1, [&](uint32_t y) {
    const auto [begin, end] = job.memory.spans[y / kConvTile];
    if (begin < end) job.kernels.split_bands(job.net, picture, job.width, job.height, static_cast<int32_t>(y), begin, end, work, bands);
  });
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto &computed = job.memory.computed[l], &copied = job.memory.copied[l];
    share(worker, next, computed.size(), kConvBatch, [&](uint32_t i) {
      const size_t count = std::min<size_t>(kConvBatch, computed.size() - i);
      job.kernels.convolve(layers[l], computed.data() + i, static_cast<int>(count), work);
    });
    share(worker, next, copied.size(), 64, [&](uint32_t begin) {
      for (size_t i = begin; i < std::min<size_t>(begin + 64, copied.size()); ++i) coverage.copy(layers[l].out, copied[i]);
    });
  }
  share(worker, next, height, 1, [&](uint32_t y) {
    job.kernels.subtract(job.net, layers.back().out, picture, job.width, job.height, static_cast<int32_t>(y), job.out + offset);
  });
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

  size_t floats = static_cast<size_t>(1 + 3 * net.unshuffle) * static_cast<size_t>(job.width + 2 * net.radius + 64);
  for (const Convolution& layer : layers)
    floats = std::max(floats, static_cast<size_t>(36 * kConvBatch) * static_cast<size_t>(layer.net.inputs + layer.net.outputs));
  floats = (floats + 31) / 16 * 16;
  job.memory.work.need(floats * static_cast<size_t>(threads));
  Coverage coverage(job.memory, net, width, height);
  std::atomic<uint32_t> next{0};
  const bool fits = run_team(threads, [&](const Worker& worker) {
    for (int64_t i = 0; i < job.count; ++i)
      sharpen_one(worker, job, coverage, bands, layers, next, i, job.memory.work.get() + floats * static_cast<size_t>(worker.id));
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
