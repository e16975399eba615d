// The arithmetic of splatting and sharpening for one instruction set: which one is decided by the compiler flags (see build.py).
#include "kernels.h"

#include <cstring>

#include "simd.h"

namespace headlift {
namespace {

constexpr float kLogMinAlpha = -7.994353436858858f;  // log2(1/255)

// Pixel centres of a 4x4 block.
alignas(64) constexpr float kBlockX[16] = {.5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f, .5f, 1.5f, 2.5f, 3.5f};
alignas(64) constexpr float kBlockY[16] = {.5f, .5f, .5f, .5f, 1.5f, 1.5f, 1.5f, 1.5f, 2.5f, 2.5f, 2.5f, 2.5f, 3.5f, 3.5f, 3.5f, 3.5f};

// Where the sixteen blocks of a tile lie: their place in fours, and their centres in pixels.
constexpr float kColumn[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
constexpr float kRow[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
alignas(64) constexpr float kBlockCentreX[16] = {2, 6, 10, 14, 2, 6, 10, 14, 2, 6, 10, 14, 2, 6, 10, 14};
alignas(64) constexpr float kBlockCentreY[16] = {2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14};

HL_INLINE float between(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

}  // namespace
}  // namespace headlift

namespace headlift {
#include "project.inl"
#include "draw.inl"
#include "sharpen.inl"
#include "update.inl"

const Kernels HL_KERNELS = {HL_KERNELS_NAME, project,  draw,     draw_backward,    project_backward, split_bands,
                            convolve,        subtract, refine_residuals, refine_moments, refine_move};

}  // namespace headlift
