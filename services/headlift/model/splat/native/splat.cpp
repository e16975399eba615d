// The C interface: chooses the kernels, walks through the cameras, keeps what the backward pass needs.
#include <algorithm>
#include <memory>

#include "frame.h"

namespace headlift {

const Kernels* kernels_of(int32_t isa) {
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 && (isa == 2 || isa < 0)) return &kAvx512Kernels;
  if (avx2 && (isa == 1 || isa < 0)) return &kAvx2Kernels;
#endif
  return isa <= 0 ? &kPortableKernels : nullptr;
}

namespace {

constexpr int64_t kChunk = 1024;  // Gaussians

struct Kept {
  std::unique_ptr<Frame[]> frames;
};

void prepare(Frame& frame, const HlCameras& cameras, int64_t c) {
  frame.width = cameras.width, frame.height = cameras.height;
  frame.tiles_x = (cameras.width + kTile - 1) / kTile, frame.tiles_y = (cameras.height + kTile - 1) / kTile;
  frame.lens = make_lens(cameras.viewmats + 16 * c, cameras.Ks + 9 * c, cameras.width, cameras.height);
}

// Draws all cameras into one frame after another, or, to keep them, each into its own.
HlStatus forward(const Kernels& kernels, const HlScene& scene, const HlCameras& cameras, const HlViews& out, int threads,
                 Kept* kept) {
  Scratch scratch;
  Frame single;
  HlStatus status = HL_OK;
  std::atomic<int32_t> next{0};
  const int64_t plane = static_cast<int64_t>(cameras.width) * cameras.height;
  const bool fits = run_team(threads, [&](const Worker& worker) {
    for (int64_t c = 0; c < cameras.count; ++c) {
      Frame& frame = kept ? kept->frames[c] : single;
      if (!worker.once([&] {
            prepare(frame, cameras, c);
            next.store(0);
          }))
        return;
      if (!arrange(worker, kernels, scene, kept != nullptr, frame, scratch, &status)) return;
      const Picture picture = frame.picture(kept != nullptr);
      const HlViews views{out.rgb + 3 * plane * c, out.alpha + plane * c, out.depth + plane * c};
      for (int32_t tile; (tile = next.fetch_add(1)) < frame.tiles();) kernels.draw(picture, tile, views);
    }
  });
  return fits ? status : HL_NO_MEMORY;
}

// Adds the chunks' camera gradients in their order.
void add_camera_grads(const std::vector<double>& chunks, const HlSceneGrads& out, int64_t c) {
  double sum[kCameraGrads] = {};
  for (size_t i = 0; i < chunks.size(); ++i) sum[i % kCameraGrads] += chunks[i];
  for (int i = 0; i < 12 && out.viewmats; ++i) out.viewmats[16 * c + i] += static_cast<float>(sum[i]);
  if (!out.Ks) return;
  float* K = out.Ks + 9 * c;
  K[0] += static_cast<float>(sum[12]), K[4] += static_cast<float>(sum[13]);
  K[2] += static_cast<float>(sum[14]), K[5] += static_cast<float>(sum[15]);
}

void clear(const Worker& worker, const HlSceneGrads& out, int64_t gaussians, int64_t cameras) {
  const auto share = [&](float* p, int64_t n) {
    if (p) std::fill(p + worker.begin(n), p + worker.end(n), 0.0f);
  };
  share(out.means, 3 * gaussians), share(out.quats, 4 * gaussians), share(out.scales, 3 * gaussians);
  share(out.opacities, gaussians), share(out.colors, 3 * gaussians);
  share(out.viewmats, 16 * cameras), share(out.Ks, 9 * cameras);
}

// Whoever is free takes the next tile or chunk, and everything is added in an order of its own: the result does not
// depend on the number of threads nor on their timing.
HlStatus backward(const Kernels& kernels, const Kept& kept, const HlScene& scene, const HlCameras& cameras,
                  const HlViewGrads& grads, const HlSceneGrads& out, int threads) {
  const int64_t chunks = (scene.count + kChunk - 1) / kChunk;
  const int64_t plane = static_cast<int64_t>(cameras.width) * cameras.height;
  const auto at = [plane](const float* p, int64_t c, int channels) { return p ? p + plane * channels * c : nullptr; };
  Buffer<float> lines;
  Buffer<uint8_t> drawn;
  std::vector<double> camera_grads(static_cast<size_t>(chunks) * kCameraGrads);
  std::atomic<int64_t> next_tile{0}, next_chunk{0};
  const bool fits = run_team(threads, [&](const Worker& worker) {
    clear(worker, out, scene.count, cameras.count);
    for (int64_t c = 0; c < cameras.count; ++c) {
      const Frame& frame = kept.frames[c];
      const Picture picture = frame.picture(true);
      if (!worker.once([&] {
            const size_t entries = picture.offsets[frame.tiles()];
            lines.need(entries * kGradLine + 1);
            drawn.need(entries + 1);
            std::fill_n(drawn.get(), entries, uint8_t{0});
            next_tile.store(0);
            next_chunk.store(0);
          }))
        return;
      const Moments moments{lines.get(), drawn.get()};
      const HlViewGrads views{at(grads.rgb, c, 3), at(grads.alpha, c, 1), at(grads.depth, c, 1), at(grads.depth_out, c, 1)};
      for (int64_t t; (t = next_tile.fetch_add(1)) < frame.tiles();)
        kernels.draw_backward(picture, static_cast<int32_t>(t), views, moments);
      worker.sync();
      for (int64_t i; (i = next_chunk.fetch_add(1)) < chunks;) {
        const int64_t begin = i * kChunk;
        kernels.project_backward(scene, frame.lens, picture, moments, begin, std::min(begin + kChunk, scene.count), out,
                                 camera_grads.data() + i * kCameraGrads);
      }
      if (!worker.once([&] { add_camera_grads(camera_grads, out, c); })) return;
    }
  });
  return fits ? HL_OK : HL_NO_MEMORY;
}

}  // namespace
}  // namespace headlift

extern "C" {

int32_t hl_splat_forward(const HlScene* scene, const HlCameras* cameras, const HlViews* out, int32_t threads, int32_t isa,
                         void** kept) {
  using namespace headlift;
  const Kernels* kernels = kernels_of(isa);
  if (!kernels) return HL_NO_SUCH_ISA;
  try {
    std::unique_ptr<Kept> keep;
    if (kept) {
      *kept = nullptr;
      keep = std::make_unique<Kept>();
      keep->frames = std::make_unique<Frame[]>(static_cast<size_t>(cameras->count));
    }
    const HlStatus status = forward(*kernels, *scene, *cameras, *out, threads, keep.get());
    if (kept && status == HL_OK) *kept = keep.release();
    return status;
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  }
}

int32_t hl_splat_backward(const void* kept, const HlScene* scene, const HlCameras* cameras, const HlViewGrads* grads,
                          const HlSceneGrads* out, int32_t threads, int32_t isa) {
  using namespace headlift;
  const Kernels* kernels = kernels_of(isa);
  if (!kernels) return HL_NO_SUCH_ISA;
  try {
    return backward(*kernels, *static_cast<const Kept*>(kept), *scene, *cameras, *grads, *out, threads);
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  }
}

void hl_splat_release(void* kept) { delete static_cast<headlift::Kept*>(kept); }

const char* hl_splat_isa(int32_t isa) {
  const headlift::Kernels* kernels = headlift::kernels_of(isa);
  return kernels ? kernels->name : nullptr;
}
}
