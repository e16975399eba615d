// Moves the Gaussians of one head by its rig: displacements, then frames from the displacements of neighbours, then the
// head's turn. Planar arrays, so that compilers make vectors of the loops; the oracle is model/drive/deform.py.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "abi.h"
#include "team.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HL_CLONES
#endif

namespace headlift {
namespace {

constexpr int64_t kBlock = 512;  // rows whose displacements stay in the first-level cache
constexpr float kStretchMin = 0.3f, kStretchMax = 3.0f;

HL_CLONES void displace(const HlDeformation& job, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t n = std::min(kBlock, end - block);
    for (int c = 0; c < 3; ++c) {
      float* __restrict out = job.displacements + c * job.count + block;
      std::fill_n(out, n, 0.0f);
      for (int32_t k = 0; k < job.shapes; ++k) {
        const float* __restrict shape = job.basis + (3 * static_cast<int64_t>(job.used[k]) + c) * job.count + block;
        const float weight = job.weights[k];
        for (int64_t i = 0; i < n; ++i) out[i] += weight * shape[i];
      }
    }
  }
}

// Growth along the axes and the turn of rows begin..begin+n, at most kBlock, into `turn` [4][kBlock], `grown` [3][kBlock].
HL_CLONES void frames(const HlDeformation& job, int64_t begin, int64_t n, float* __restrict turn, float* __restrict grown) {
  const int64_t count = job.count;
  const float *dx = job.displacements, *dy = dx + count, *dz = dy + count;
  const float* t = job.tangents + begin;
  const float* slope = job.slopes + begin;
  const int32_t* near = job.neighbors + begin;
  const float* axes = job.axes + begin;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const float t1x = t[i], t1y = t[count + i], t1z = t[2 * count + i];
    const float t2x = t[3 * count + i], t2y = t[4 * count + i], t2z = t[5 * count + i];
    const float ox = dx[begin + i], oy = dy[begin + i], oz = dz[begin + i];
    float a1x = t1x, a1y = t1y, a1z = t1z, a2x = t2x, a2y = t2y, a2z = t2z;
    for (int j = 0; j < 8; ++j) {
      const int32_t q = near[j * count + i];
      const float ex = dx[q] - ox, ey = dy[q] - oy, ez = dz[q] - oz;
      const float u = slope[j * count + i], v = slope[(8 + j) * count + i];
      a1x += u * ex, a1y += u * ey, a1z += u * ez;
      a2x += v * ex, a2y += v * ey, a2z += v * ez;
    }
    float nx = a1y * a2z - a1z * a2y, ny = a1z * a2x - a1x * a2z, nz = a1x * a2y - a1y * a2x;
    float inverse = 1.0f / std::sqrt(nx * nx + ny * ny + nz * nz + 1e-18f);
    nx *= inverse, ny *= inverse, nz *= inverse;
    float e1x = a1x + (a2y * nz - a2z * ny), e1y = a1y + (a2z * nx - a2x * nz), e1z = a1z + (a2x * ny - a2y * nx);
    inverse = 1.0f / std::sqrt(e1x * e1x + e1y * e1y + e1z * e1z + 1e-18f);
    e1x *= inverse, e1y *= inverse, e1z *= inverse;
    const float e2x = ny * e1z - nz * e1y, e2y = nz * e1x - nx * e1z, e2z = nx * e1y - ny * e1x;
    const float t3x = t1y * t2z - t1z * t2y, t3y = t1z * t2x - t1x * t2z, t3z = t1x * t2y - t1y * t2x;
    float w = 1.0f + (t1x * e1x + t1y * e1y + t1z * e1z) + (t2x * e2x + t2y * e2y + t2z * e2z) + (t3x * nx + t3y * ny + t3z * nz);
    w = w > 1e-3f ? w : 1e-3f;
    const float x = (t1y * e1z - t1z * e1y) + (t2y * e2z - t2z * e2y) + (t3y * nz - t3z * ny);
    const float y = (t1z * e1x - t1x * e1z) + (t2z * e2x - t2x * e2z) + (t3z * nx - t3x * nz);
    const float z = (t1x * e1y - t1y * e1x) + (t2x * e2y - t2y * e2x) + (t3x * ny - t3y * nx);
    inverse = 1.0f / std::sqrt(w * w + x * x + y * y + z * z);
    turn[i] = w * inverse, turn[kBlock + i] = x * inverse, turn[2 * kBlock + i] = y * inverse, turn[3 * kBlock + i] = z * inverse;
    for (int c = 0; c < 3; ++c) {
      const float p = axes[c * count + i], q = axes[(3 + c) * count + i], r = axes[(6 + c) * count + i];
      const float fx = a1x * p + a2x * q + nx * r, fy = a1y * p + a2y * q + ny * r, fz = a1z * p + a2z * q + nz * r;
      const float g = std::sqrt(fx * fx + fy * fy + fz * fz);
      grown[c * kBlock + i] = g < kStretchMin ? kStretchMin : g > kStretchMax ? kStretchMax : g;
    }
  }
}

inline void multiply(const float a[4], const float* b, float* out) {
  const float w = b[0], x = b[1], y = b[2], z = b[3];
  out[0] = a[0] * w - a[1] * x - a[2] * y - a[3] * z;
  out[1] = a[0] * x + a[1] * w + a[2] * z - a[3] * y;
  out[2] = a[0] * y - a[1] * z + a[2] * w + a[3] * x;
  out[3] = a[0] * z + a[1] * y - a[2] * x + a[3] * w;
}

void scatter(const HlDeformation& job, int64_t begin, int64_t n, const float* turn, const float* grown) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = job.rows[begin + i];
    const float own[4] = {turn[i], turn[kBlock + i], turn[2 * kBlock + i], turn[3 * kBlock + i]};
    multiply(own, job.quats + 4 * row, job.out_quats + 4 * row);
    for (int c = 0; c < 3; ++c) {
      job.out_means[3 * row + c] = job.means[3 * row + c] + job.displacements[c * job.count + begin + i];
      job.out_scales[3 * row + c] = job.scales[3 * row + c] * grown[c * kBlock + i];
    }
  }
}

void turn_head(const HlDeformation& job, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const float* t = job.turn_table + 7 * job.turning[i];
    float* m = job.out_means + 3 * i;
    const float w = t[0], x = t[1], y = t[2], z = t[3], a = m[0], b = m[1], c = m[2];
    m[0] = (1 - 2 * (y * y + z * z)) * a + 2 * (x * y - w * z) * b + 2 * (x * z + w * y) * c + t[4];
    m[1] = 2 * (x * y + w * z) * a + (1 - 2 * (x * x + z * z)) * b + 2 * (y * z - w * x) * c + t[5];
    m[2] = 2 * (x * z - w * y) * a + 2 * (y * z + w * x) * b + (1 - 2 * (x * x + y * y)) * c + t[6];
    multiply(t, job.out_quats + 4 * i, job.out_quats + 4 * i);
  }
}

}  // namespace
}  // namespace headlift

extern "C" int32_t hl_deform(const HlDeformation* job, int32_t threads) {
  using namespace headlift;
  const bool fits = run_team(std::max(threads, 1), [&](const Worker& worker) {
    const auto copy = [&](const float* from, float* to, int64_t width) {
      const int64_t begin = worker.begin(job->total) * width, end = worker.end(job->total) * width;
      std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin) * sizeof(float));
    };
    copy(job->means, job->out_means, 3), copy(job->quats, job->out_quats, 4), copy(job->scales, job->out_scales, 3);
    displace(*job, worker.begin(job->count), worker.end(job->count));
    worker.sync();
    alignas(64) float turn[4 * kBlock], grown[3 * kBlock];
    const int64_t end = worker.end(job->count);
    for (int64_t block = worker.begin(job->count); block < end; block += kBlock) {
      const int64_t n = std::min(kBlock, end - block);
      frames(*job, block, n, turn, grown);
      scatter(*job, block, n, turn, grown);
    }
    if (!job->turns) return;
    worker.sync();
    turn_head(*job, worker.begin(job->total), worker.end(job->total));
  });
  return fits ? HL_OK : HL_NO_MEMORY;
}
