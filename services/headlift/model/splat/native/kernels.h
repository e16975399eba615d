// What the kernels, compiled once for each instruction set, share with the code that calls them. Plain data only: an
// inline function of the standard library compiled here for AVX-512 could be the one the linker keeps for everybody.
#pragma once
#include <cstdint>

#include "abi.h"

namespace headlift {

constexpr int kTile = 16;        // pixels a side, as in gsplat
constexpr int kBlocks = 16;      // a tile is 4x4 blocks of 4x4 pixels; one block is one vector
constexpr int kTilePixels = kTile * kTile;
constexpr int kGradLine = 16;    // floats of the gradient moments of a Gaussian in a tile: one cache line, ten in use
constexpr int kCameraGrads = 16; // 12 of the view matrix's upper rows, then fx fy cx cy
constexpr float kEps2d = 0.3f;   // px^2 added to the projected covariance
constexpr float kNear = 0.01f;   // m
constexpr float kMaxAlpha = 0.999f;
constexpr float kMinAlpha = 1.0f / 255.0f;
constexpr float kMinTransmittance = 1e-4f;

// One visible Gaussian in one picture. With dx = mx - px, dy = my - py its alpha is
// exp2(lo - (p dx + r dy)^2 - (s dy)^2): the Cholesky factor of the conic keeps the exponent from turning positive and
// loses no digits on long thin ellipses, where gsplat's a dx^2 + 2 b dx dy + c dy^2 cancels.
struct alignas(64) Splat {
  float mx, my, p, r, s, lo, red, green, blue, z;
  float ex, ey;  // half extents of the box where alpha can reach 1/255, px
  float unused[4];
};

// The tiles that a Gaussian touches, and the slots of its list entries: one each, counted Gaussian by Gaussian.
struct Footprint {
  uint16_t x0, x1, y0, y1;  // half open
  uint32_t first_slot, count;
};

struct Entry {
  uint32_t splat, slot;
};

// One camera with what projection derives from it.
struct Lens {
  float R[3][3], t[3];
  float fx, fy, cx, cy;
  float width, height;
  float x_min, x_max, y_min, y_max;  // where x/z and y/z are clamped for the Jacobian: 1.3 times the field of view
};

// Result of projecting a range of Gaussians.
struct Visible {
  uint32_t count, key_min, key_max;
  bool bad_values;
  uint64_t entries;  // tiles touched by all of them
};

// The drawn picture, in tiles; `list` goes tile by tile, near to far.
struct Picture {
  int32_t width, height, tiles_x, tiles_y;
  const Splat* splats;
  const uint32_t* offsets;
  const Entry* list;
  const Footprint* footprints;  // of every Gaussian; count is zero where it is not visible
  // Kept for the backward pass, else null: blocks that a list entry coloured, list entries looked at, and for each pixel
  // the transmittance behind its last Gaussian and that Gaussian's place in the tile's list.
  uint16_t* hits;
  uint32_t* visited;
  float *final_T, *last;
};

// Gradient moments of every slot and whether it has been drawn. Written tile by tile in any order, read Gaussian by
// Gaussian: no two threads write one line, and sums do not depend on timing.
struct Moments {
  float* lines;  // [slots, kGradLine]
  uint8_t* drawn;
};

// Activations of the sharpening network: [height + 2, width + 2, channels] with zeros around, the pointer at the corner.
struct Plane {
  float* data;
  int32_t width, height, channels;
};

static inline float* at(const Plane& plane, int32_t x, int32_t y) {
  return plane.data + (static_cast<int64_t>(y + 1) * (plane.width + 2) + x + 1) * plane.channels;
}

// What convolutions do besides: out = relu(convolution(in) + add) + then. Null where there is no such term; without
// `rectify` just the convolution. `add` and `then` may be `out` itself.
struct Convolution {
  HlConvolution net;
  Plane in, out;
  const Plane *add, *then;
  bool rectify;
};

constexpr int kConvTile = 4;    // outputs a side that are computed together
constexpr int kConvBatch = 12;  // tiles a call

struct Kernels {
  const char* name;
  // Projects Gaussians begin..end; writes splats and footprints (slots counted from `begin`) at their own index,
  // keys (depth bits) and ids compactly.
  Visible (*project)(const HlScene& scene, const Lens& lens, int64_t begin, int64_t end, Splat* splats,
                     Footprint* footprints, uint32_t* keys, uint32_t* ids);
  void (*draw)(const Picture& picture, int32_t tile, const HlViews& out);
  // Writes the moments of every list entry that was drawn.
  void (*draw_backward)(const Picture& picture, int32_t tile, const HlViewGrads& grads, const Moments& moments);
  // Sums the moments of Gaussians begin..end over their tiles, carries them through the projection and adds to `out`;
  // writes the camera's twelve and four to camera_grads.
  void (*project_backward)(const HlScene& scene, const Lens& lens, const Picture& picture, const Moments& moments,
                           int64_t begin, int64_t end, const HlSceneGrads& out, double* camera_grads);
  // Low and high band of pixels begin..end of row `y` of the unshuffled plane; `rows` is working memory.
  void (*split_bands)(const HlSharpener& net, const float* picture, int32_t width, int32_t height, int32_t y,
                      int32_t begin, int32_t end, float* rows, const Plane& out);
  // The tiles at `places` (x + y * tiles a row), at most kConvBatch of them; `work` is working memory.
  void (*convolve)(const Convolution& job, const uint32_t* places, int count, float* work);
  // Row `y` of the plane that holds the residual, subtracted from the picture.
  void (*subtract)(const HlSharpener& net, const Plane& residual, const float* picture, int32_t width, int32_t height,
                   int32_t y, float* out);
  // Refinement of Gaussians begin..end in three passes: how far each is from its neighbours' mean; Adam's moments, with
  // the sum of the second over the Gaussians in `squares`; the move. The first two return their regularisers' energy.
  double (*refine_residuals)(const HlRefine& state, const HlRefineStep& step, int64_t begin, int64_t end);
  double (*refine_moments)(const HlRefine& state, const HlRefineStep& step, const HlScene& grads, int64_t begin,
                           int64_t end, double* squares);
  void (*refine_move)(const HlRefine& state, const HlRefineStep& step, const float* lowest, int64_t begin, int64_t end,
                      const HlSceneGrads& out);
};

// The kernels of this instruction set (see abi.h), or null where this processor or build has no such one.
const Kernels* kernels_of(int32_t isa);

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace headlift
