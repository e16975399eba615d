// One picture on its way: projected Gaussians, sorted and dealt out to tiles.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "kernels.h"
#include "team.h"

namespace headlift {

// Memory on cache lines that grows and is never cleared: its pages are touched by the thread that fills them.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }

  void need(size_t count) {
    if (count <= capacity_) return;
    release();
    data_ = static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(64)));
    capacity_ = count;
  }
  void release() {
    ::operator delete(data_, std::align_val_t(64));
    data_ = nullptr;
    capacity_ = 0;
  }
  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  size_t capacity_ = 0;
};

// What sorting needs and the finished frame does not; one serves all pictures of a call.
struct Scratch {
  Buffer<uint32_t> keys[2], ids[2], histogram, tile_counts;
  std::vector<Visible> visible;
};

struct Frame {
  Lens lens;
  int32_t width = 0, height = 0, tiles_x = 0, tiles_y = 0;
  Buffer<Splat> splats;
  Buffer<uint32_t> offsets, visited;
  Buffer<Entry> list;
  Buffer<Footprint> footprints;
  Buffer<uint16_t> hits;
  Buffer<float> final_T, last;

  int32_t tiles() const { return tiles_x * tiles_y; }
  Picture picture(bool kept) const;
};

Lens make_lens(const float* viewmat, const float* K, int32_t width, int32_t height);

// Fills the frame; called by every worker of a team. Sets *status on the way and returns false where it is not HL_OK.
bool arrange(const Worker& worker, const Kernels& kernels, const HlScene& scene, bool kept, Frame& frame, Scratch& scratch,
             HlStatus* status);

}  // namespace headlift
