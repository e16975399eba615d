// Refinement's own part of a step, fused: the error of the picture with its gradient, and the move of the Gaussians.
// Sums are taken in an order of their own, so that results do not depend on the number of threads.
#include <algorithm>
#include <cmath>

#include "frame.h"

namespace headlift {
namespace {

constexpr int64_t kChunk = 1024;  // Gaussians
constexpr int kFields[4][2] = {{0, 3}, {3, 6}, {6, 9}, {9, 10}};  // lanes of means, colours, scales, opacities

// What is added to the root of the second moment: a share of the field's root mean square.
void lowest_spread(const HlRefineStep& step, const std::vector<double>& squares, int64_t count, float* lowest) {
  double sums[16] = {};
  for (size_t i = 0; i < squares.size(); ++i) sums[i % 16] += squares[i];
  std::fill_n(lowest, 16, step.eps);
  for (const auto& [begin, end] : kFields) {
    double sum = 0.0;
    for (int k = begin; k < end; ++k) sum += sums[k];
    const double mean = sum / static_cast<double>(count * (end - begin));
    for (int k = begin; k < end; ++k) lowest[k] += static_cast<float>(step.floor * std::sqrt(mean) / step.correction2);
  }
}

template <class Work>
void each_chunk(std::atomic<int64_t>& next, int64_t count, Work&& work) {
  for (int64_t c; (c = next.fetch_add(1)) * kChunk < count;) work(c, c * kChunk, std::min((c + 1) * kChunk, count));
}

bool update(const Kernels& kernels, const HlRefine& state, const HlRefineStep& step, const HlScene& grads,
            const HlSceneGrads& out, int threads, double* energy) {
  const auto chunks = static_cast<size_t>((state.count + kChunk - 1) / kChunk);
  std::vector<double> energies(2 * chunks), squares(16 * chunks);
  alignas(64) float lowest[16];
  std::atomic<int64_t> next[3] = {};
  const bool fits = run_team(threads, [&](const Worker& worker) {
    each_chunk(next[0], state.count, [&](int64_t c, int64_t begin, int64_t end) {
      energies[2 * c] = kernels.refine_residuals(state, step, begin, end);
    });
    worker.sync();
    each_chunk(next[1], state.count, [&](int64_t c, int64_t begin, int64_t end) {
      energies[2 * c + 1] = kernels.refine_moments(state, step, grads, begin, end, squares.data() + 16 * c);
    });
    if (!worker.once([&] { lowest_spread(step, squares, state.count, lowest); })) return;
    each_chunk(next[2], state.count, [&](int64_t, int64_t begin, int64_t end) {
      kernels.refine_move(state, step, lowest, begin, end, out);
    });
  });
  *energy = 0.0;
  for (double part : energies) *energy += part;
  return fits;
}

struct Level {
  int32_t width, height;
  Buffer<float> error;  // [3, height, width]; its gradient in the end
};

float sign(float x) { return static_cast<float>((x > 0.0f) - (x < 0.0f)); }

int32_t halved(int32_t n) { return (n + 1) / 2; }

// Rows `y` of all channels: means over 2x2 pixels, fewer at an odd border.
void pool_row(const Level& fine, const Level& coarse, int32_t y, int32_t c) {
  const int32_t below = std::min(2 * y + 1, fine.height - 1);
  const float* top = fine.error.get() + (static_cast<int64_t>(c) * fine.height + 2 * y) * fine.width;
  const float* bottom = fine.error.get() + (static_cast<int64_t>(c) * fine.height + below) * fine.width;
  float* out = coarse.error.get() + (static_cast<int64_t>(c) * coarse.height + y) * coarse.width;
  for (int32_t x = 0; x < fine.width / 2; ++x) out[x] = 0.25f * (top[2 * x] + top[2 * x + 1] + bottom[2 * x] + bottom[2 * x + 1]);
  if (fine.width & 1) out[coarse.width - 1] = 0.5f * (top[fine.width - 1] + bottom[fine.width - 1]);
}

bool picture_error(const HlPictureError& job, int threads, double* loss) {
  const int32_t width = job.width, height = job.height;
  const int64_t plane = static_cast<int64_t>(width) * height;
  Level levels[5];
  Buffer<float> alpha_error;
  std::vector<double> sums(static_cast<size_t>(height) * 4 * 5);  // of each row, channel and level
  const bool fits = run_team(threads, [&](const Worker& worker) {
    if (!worker.once([&] {
          for (int l = 0, w = width, h = height; l < job.levels; ++l, w = halved(w), h = halved(h)) {
            levels[l].width = w, levels[l].height = h;
            levels[l].error.need(static_cast<size_t>(3) * w * h);
          }
          alpha_error.need(static_cast<size_t>(plane));
        }))
      return;
    const auto sum_row = [&](int level, int32_t y, int32_t c) -> double& {
      return sums[(static_cast<size_t>(level) * height + y) * 4 + c];
    };
    for (int64_t y = worker.begin(height); y < worker.end(height); ++y) {
      const int64_t row = y * width;
      float* a = alpha_error.get() + row;
      float sum = 0.0f;
      for (int32_t x = 0; x < width; ++x) {
        a[x] = (job.alpha[row + x] - job.target_alpha[row + x]) * job.source_mask[row + x];
        sum += std::fabs(a[x]);
      }
      sum_row(0, static_cast<int32_t>(y), 3) = sum;
      for (int c = 0; c < 3; ++c) {
        const float *rgb = job.rgb + plane * c + row, *image = job.image + plane * c + row, *seen = job.source_mask + row;
        const float *weight = job.color_weight + row, behind = job.background[c];
        float* e = levels[0].error.get() + plane * c + row;
        for (int32_t x = 0; x < width; ++x) e[x] = ((rgb[x] - image[x]) * seen[x] - a[x] * behind) * weight[x];
      }
    }
    for (int l = 0; l < job.levels; ++l) {
      const Level& own = levels[l];
      worker.sync();
      for (int c = 0; c < 3; ++c) {
        for (int64_t y = worker.begin(own.height); y < worker.end(own.height); ++y) {
          if (l) pool_row(levels[l - 1], own, static_cast<int32_t>(y), c);
          const float* e = own.error.get() + (static_cast<int64_t>(c) * own.height + y) * own.width;
          float sum = 0.0f;
          for (int32_t x = 0; x < own.width; ++x) sum += std::fabs(e[x]);
          sum_row(l, static_cast<int32_t>(y), c) = sum;
        }
      }
    }
    for (int l = job.levels; l-- > 0;) {
      const Level& own = levels[l];
      const float share = job.weights[l] / (3.0f * static_cast<float>(own.width) * static_cast<float>(own.height));
      worker.sync();
      for (int c = 0; c < 3; ++c) {
        for (int64_t y = worker.begin(own.height); y < worker.end(own.height); ++y) {
          float* e = own.error.get() + (static_cast<int64_t>(c) * own.height + y) * own.width;
          for (int32_t x = 0; x < own.width; ++x) e[x] = share * sign(e[x]);
          if (l + 1 == job.levels) continue;
          const Level& coarse = levels[l + 1];
          const float* g = coarse.error.get() + (static_cast<int64_t>(c) * coarse.height + y / 2) * coarse.width;
          const float part = y + 1 == own.height && !(y & 1) ? 0.5f : 0.25f;
          for (int32_t x = 0; x < own.width / 2; ++x) e[2 * x] += part * g[x], e[2 * x + 1] += part * g[x];
          if (own.width & 1) e[own.width - 1] += 2.0f * part * g[coarse.width - 1];
        }
      }
    }
    worker.sync();
    const float share = job.alpha_weight / static_cast<float>(plane);
    for (int64_t y = worker.begin(height); y < worker.end(height); ++y) {
      const int64_t row = y * width;
      float* v_alpha = job.v_alpha + row;
      for (int32_t x = 0; x < width; ++x) v_alpha[x] = share * sign(alpha_error.get()[row + x]) * job.source_mask[row + x];
      for (int c = 0; c < 3; ++c) {
        const float* e = levels[0].error.get() + plane * c + row;
        float* v_rgb = job.v_rgb + plane * c + row;
        for (int32_t x = 0; x < width; ++x) {
          v_rgb[x] = e[x] * job.color_weight[row + x] * job.source_mask[row + x];
          v_alpha[x] -= v_rgb[x] * job.background[c];
        }
      }
    }
  });
  *loss = 0.0;
  for (int l = 0; l < job.levels; ++l) {
    double colors = 0.0, alphas = 0.0;
    for (int32_t y = 0; y < levels[l].height; ++y) {
      const double* row = sums.data() + (static_cast<size_t>(l) * height + y) * 4;
      colors += row[0] + row[1] + row[2], alphas += row[3];
    }
    *loss += job.weights[l] * colors / (3.0 * levels[l].width * levels[l].height) + job.alpha_weight * alphas / static_cast<double>(plane);
  }
  return fits;
}

}  // namespace
}  // namespace headlift

extern "C" {

int32_t hl_refine_update(const HlRefine* state, const HlRefineStep* step, const HlScene* grads, const HlSceneGrads* out,
                         int32_t threads, int32_t isa, double* energy) {
  const headlift::Kernels* kernels = headlift::kernels_of(isa);
  if (!kernels) return HL_NO_SUCH_ISA;
  try {
    return headlift::update(*kernels, *state, *step, *grads, *out, threads, energy) ? HL_OK : HL_NO_MEMORY;
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  }
}

int32_t hl_picture_error(const HlPictureError* job, int32_t threads, double* loss) {
  try {
    return headlift::picture_error(*job, threads, loss) ? HL_OK : HL_NO_MEMORY;
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  }
}
}
