// The C interface of the native library: the rasteriser, which headlift/model/splat/native.py mirrors with ctypes, the
// sharpening network (headlift/stages/native_sharpener.py) and refinement (headlift/model/refine/native.py).
// All arrays are dense float32, row major. Layouts: means [N,3] quats [N,4] scales [N,3] opacities [N] colors [N,3]
// viewmats [C,4,4] Ks [C,3,3] rgb [C,3,H,W] alpha [C,1,H,W] depth [C,1,H,W].
#pragma once
#include <cstdint>

#define HL_EXPORT __attribute__((visibility("default")))

extern "C" {

struct HlScene {
  int64_t count;
  const float *means, *quats, *scales, *opacities, *colors;
};

struct HlCameras {
  int64_t count;
  const float *viewmats, *Ks;
  int32_t width, height;
};

struct HlViews {
  float *rgb, *alpha, *depth;
};

// Gradients of the loss with respect to the views; a null pointer means zero. `depth_out` is the forward pass's depth.
struct HlViewGrads {
  const float *rgb, *alpha, *depth, *depth_out;
};

// Where gradients are written, summed over the cameras; need not be cleared. Null where nobody wants them.
struct HlSceneGrads {
  float *means, *quats, *scales, *opacities, *colors, *viewmats, *Ks;
};

enum HlStatus { HL_OK = 0, HL_BAD_VALUES = 1, HL_TOO_MANY_TILES = 2, HL_NO_MEMORY = 3, HL_NO_SUCH_ISA = 4 };

// Draws every camera. isa < 0 takes the best this processor has. With `kept` not null, it receives what the backward pass
// needs, to be handed to hl_splat_release in the end.
HL_EXPORT int32_t hl_splat_forward(const HlScene*, const HlCameras*, const HlViews*, int32_t threads, int32_t isa,
                                   void** kept);
HL_EXPORT int32_t hl_splat_backward(const void* kept, const HlScene*, const HlCameras*, const HlViewGrads*,
                                    const HlSceneGrads*, int32_t threads, int32_t isa);
HL_EXPORT void hl_splat_release(void* kept);

// One 3x3 convolution: channel counts are multiples of 16, `weights` [36, inputs, outputs] are transformed (see
// sharpen.inl), `bias` has `outputs` numbers.
struct HlConvolution {
  int32_t inputs, outputs;
  const float *weights, *bias;
};

// The network: 2 radius + 1 blur taps, then `count` convolutions: the first, pairs with a skip connection, the last.
struct HlSharpener {
  int32_t unshuffle, radius, count;
  const float* taps;
  const HlConvolution* convolutions;
};

// Working memory that is kept from call to call; one call may use it at a time.
HL_EXPORT void* hl_sharpen_memory();
HL_EXPORT void hl_sharpen_release(void* memory);
// pictures [C,3,H,W] -> out [C,3,H,W], clamped to 0..1.
HL_EXPORT int32_t hl_sharpen(const HlSharpener*, const float* pictures, float* out, int32_t count, int32_t width,
                             int32_t height, void* memory, int32_t threads, int32_t isa);
// Refinement's state, in rows of sixteen floats, one Gaussian a row. Lanes 0 to 2 mean, 3 to 5 colour, 6 to 8 scale,
// 9 opacity; changes are centimetres, logits and logarithms.
struct HlRefine {
  int64_t count;
  int32_t degree;             // neighbours of each Gaussian
  const int32_t* neighbors;   // [N, degree]
  const int32_t *sources, *offsets;  // Gaussian i is a neighbour of sources[offsets[i] .. offsets[i + 1]]
  const int32_t* mirror;      // [N]
  const int32_t* places;      // [N], its row among the Gaussians that are drawn; below 0 where it is not
  // [N + 1, 16]: mean in metres, colour logits, scales, opacity logit; then the largest change of each scale (10 to 12),
  // how far the picture may recolour it (13), how far only its mirrored one is seen (14).
  const float* start;
  float *change, *first, *second;  // [N, 16]: the change and Adam's two moments
  float* residuals;                // [N, 16]: working memory
};

// One step. `smooth` and `pull` weigh each lane's roughness and square, over the number of Gaussians; `rate` is Adam's,
// over its first correction.
struct HlRefineStep {
  float smooth[16], pull[16], rate[16];
  float beta1, beta2, correction2, eps, floor;
  float mirror;                                // weight of squared colour differences to the mirrored one
  float max_offset, max_logit, max_log_growth;
};

// Moves the Gaussians against `grads`, the picture's gradient (quats unused), and the regularisers'; writes the new
// numbers of those drawn to `out` (means, scales, opacities, colors) and the regularisers' energy to `energy`.
HL_EXPORT int32_t hl_refine_update(const HlRefine*, const HlRefineStep*, const HlScene* grads, const HlSceneGrads* out,
                                   int32_t threads, int32_t isa, double* energy);

// The error of one view as in model/refine/objective.py, and its gradient, written to v_rgb and v_alpha.
struct HlPictureError {
  int32_t width, height, levels;  // 1 to 5 levels
  const float *rgb, *alpha, *image, *target_alpha, *source_mask, *color_weight;
  float background[3], weights[5], alpha_weight;
  float *v_rgb, *v_alpha;
};
HL_EXPORT int32_t hl_picture_error(const HlPictureError*, int32_t threads, double* loss);

// One head and how it moves (model/drive): `count` rows of `total` Gaussians, planar arrays over the rows.
struct HlDeformation {
  int64_t count, total;
  int32_t shapes, turns;  // weights that are not 0; whether the head turns
  const int32_t* used;    // [shapes] places in the basis
  const float *weights, *basis;  // [shapes]; [52, 3, count]
  const int64_t* rows;           // [count]
  const int32_t* neighbors;      // [8, count]
  const float *slopes, *tangents, *axes;  // [2, 8, count], [2, 3, count], [3, 3, count]
  const float *means, *quats, *scales;    // [total, .] at rest
  const uint8_t* turning;                 // [total], row of the table
  const float* turn_table;                // [256, 7] quaternion, shift
  float* displacements;                   // [3, count], working memory
  float *out_means, *out_quats, *out_scales;
};
HL_EXPORT int32_t hl_deform(const HlDeformation*, int32_t threads);

// Name of instruction set `isa` (0 is the portable one), or null where this processor or build has no such one.
HL_EXPORT const char* hl_splat_isa(int32_t isa);
}
