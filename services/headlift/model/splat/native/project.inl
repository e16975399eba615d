// Projection of sixteen Gaussians at a time and its gradient; included by kernels.cpp.

namespace {

struct Projected {
  F X, Y, Z;                  // world, m
  F x, y, iz;                 // camera; 1/z
  F w, a, b, c, inv_norm;     // normalised quaternion
  F rot[3][3], scale[3];
  F tan_x, tan_y;             // clamped x/z and y/z
  F P[2][3], U[2][3], Q[2][3];  // J R, J R rot, J R rot diag(scale)
  F xx, xy, yy, det;          // 2D covariance with eps2d
};

HL_INLINE F dot3(const F (&a)[3], const F (&b)[3]) { return fma(a[0], b[0], fma(a[1], b[1], a[2] * b[2])); }

// a x + b y + c z + d, rounded once: neighbours on a head lie closer in depth than the rounding of a plain sum, and their
// order decides colours. (Without a fused multiply-add it is a plain sum.)
HL_INLINE F exact_sum(F a, F x, F b, F y, F c, F z, F d) {
  const F terms[3] = {a * x, b * y, c * z}, zero = bc(0.0f);
  F sum = d, lost = fma(a, x, zero - terms[0]) + fma(b, y, zero - terms[1]) + fma(c, z, zero - terms[2]);
  for (const F& term : terms) {  // Knuth's two-sum
    const F next = sum + term, part = next - sum;
    lost = lost + ((sum - (next - part)) + (term - part));
    sum = next;
  }
  return sum + lost;
}

HL_INLINE void rotation(Projected& g) {
  const F two = bc(2.0f), one = bc(1.0f);
  const F aa = g.a * g.a, bb = g.b * g.b, cc = g.c * g.c, ab = g.a * g.b, ac = g.a * g.c, bq = g.b * g.c;
  const F wa = g.w * g.a, wb = g.w * g.b, wc = g.w * g.c;
  g.rot[0][0] = fnma(two, bb + cc, one);
  g.rot[0][1] = two * (ab - wc);
  g.rot[0][2] = two * (ac + wb);
  g.rot[1][0] = two * (ab + wc);
  g.rot[1][1] = fnma(two, aa + cc, one);
  g.rot[1][2] = two * (bq - wa);
  g.rot[2][0] = two * (ac - wb);
  g.rot[2][1] = two * (bq + wa);
  g.rot[2][2] = fnma(two, aa + bb, one);
}

HL_INLINE void project16(const HlScene& scene, const Lens& lens, int64_t i, int lanes, Projected& g, F& z) {
  const float *m = scene.means + 3 * i, *q = scene.quats + 4 * i, *s = scene.scales + 3 * i;
  g.X = gather(m, 3, lanes), g.Y = gather(m + 1, 3, lanes), g.Z = gather(m + 2, 3, lanes);
  g.w = gather(q, 4, lanes), g.a = gather(q + 1, 4, lanes), g.b = gather(q + 2, 4, lanes), g.c = gather(q + 3, 4, lanes);
  F camera[2];
  for (int r = 0; r < 2; ++r)
    camera[r] = fma(bc(lens.R[r][0]), g.X, fma(bc(lens.R[r][1]), g.Y, fma(bc(lens.R[r][2]), g.Z, bc(lens.t[r]))));
  g.x = camera[0], g.y = camera[1];
  z = exact_sum(bc(lens.R[2][0]), g.X, bc(lens.R[2][1]), g.Y, bc(lens.R[2][2]), g.Z, bc(lens.t[2]));
  g.iz = bc(1.0f) / z;
  const F norm = sqrt(fma(g.w, g.w, fma(g.a, g.a, fma(g.b, g.b, g.c * g.c))));
  g.inv_norm = bc(1.0f) / max(norm, bc(1e-12f));
  g.w = g.w * g.inv_norm, g.a = g.a * g.inv_norm, g.b = g.b * g.inv_norm, g.c = g.c * g.inv_norm;
  rotation(g);
  g.tan_x = min(bc(lens.x_max), max(bc(lens.x_min), g.x * g.iz));
  g.tan_y = min(bc(lens.y_max), max(bc(lens.y_min), g.y * g.iz));
  const F jx = bc(lens.fx) * g.iz, jy = bc(lens.fy) * g.iz;
  for (int k = 0; k < 3; ++k) {
    g.P[0][k] = jx * fnma(g.tan_x, bc(lens.R[2][k]), bc(lens.R[0][k]));
    g.P[1][k] = jy * fnma(g.tan_y, bc(lens.R[2][k]), bc(lens.R[1][k]));
  }
  for (int k = 0; k < 3; ++k) {
    g.scale[k] = gather(s + k, 3, lanes);
    for (int r = 0; r < 2; ++r) {
      g.U[r][k] = fma(g.P[r][0], g.rot[0][k], fma(g.P[r][1], g.rot[1][k], g.P[r][2] * g.rot[2][k]));
      g.Q[r][k] = g.U[r][k] * g.scale[k];
    }
  }
  const F eps = bc(kEps2d);
  const F xx = dot3(g.Q[0], g.Q[0]), yy = dot3(g.Q[1], g.Q[1]);
  g.xx = xx + eps, g.yy = yy + eps, g.xy = dot3(g.Q[0], g.Q[1]);
  // xx yy - xy^2 by Lagrange's identity: positive whatever the rounding.
  const F n0 = fnma(g.Q[0][2], g.Q[1][1], g.Q[0][1] * g.Q[1][2]);
  const F n1 = fnma(g.Q[0][0], g.Q[1][2], g.Q[0][2] * g.Q[1][0]);
  const F n2 = fnma(g.Q[0][1], g.Q[1][0], g.Q[0][0] * g.Q[1][1]);
  g.det = fma(n0, n0, fma(n1, n1, fma(n2, n2, fma(eps, xx + yy, eps * eps))));
}

Visible project(const HlScene& scene, const Lens& lens, int64_t begin, int64_t end, Splat* splats,
                Footprint* footprints, uint32_t* keys, uint32_t* ids) {
  Visible result{0, ~0u, 0u, false, 0};
  const F zero = bc(0.0f), huge = bc(1e18f);
  const float tiles_x = static_cast<float>((static_cast<int>(lens.width) + kTile - 1) / kTile);
  const float tiles_y = static_cast<float>((static_cast<int>(lens.height) + kTile - 1) / kTile);
  alignas(64) float out[12][16];
  for (int64_t i = begin; i < end; i += 16) {
    const int lanes = static_cast<int>(end - i < 16 ? end - i : 16);
    Projected g;
    F z;
    project16(scene, lens, i, lanes, g, z);
    const F opacity = gather(scene.opacities + i, 1, lanes);
    const float* colors = scene.colors + 3 * i;
    const F red = gather(colors, 3, lanes), green = gather(colors + 1, 3, lanes), blue = gather(colors + 2, 3, lanes);
    // x - x is zero for finite numbers only.
    const F all = (g.X + g.Y + g.Z) * zero + (g.w + g.a + g.b + g.c) * zero + (red + green + blue) * zero;
    const F lowest = min(min(g.scale[0], min(g.scale[1], g.scale[2])), min(opacity, bc(1.0f) - opacity));
    const F sums = all + (g.scale[0] + g.scale[1] + g.scale[2] + opacity) * zero;
    if (bits((sums >= zero) & (lowest >= zero)) != 0xffffu) result.bad_values = true;

    const F two_log = log2(max(opacity, bc(kMinAlpha)) * bc(255.0f)) * bc(1.3862943611198906f);  // 2 ln(255 opacity)
    const F extent = sqrt(max(two_log, zero)) * bc(1.0001f);
    const F ex = extent * sqrt(g.xx), ey = extent * sqrt(g.yy);
    const F mx = fma(bc(lens.fx), g.x * g.iz, bc(lens.cx)), my = fma(bc(lens.fy), g.y * g.iz, bc(lens.cy));
    M seen = (z >= bc(kNear)) & (opacity >= bc(kMinAlpha)) & (huge > g.det) & (huge > abs(mx)) & (huge > abs(my));
    seen = seen & (mx + ex > zero) & (bc(lens.width) > mx - ex) & (my + ey > zero) & (bc(lens.height) > my - ey);
    const unsigned mask = bits(seen) & ((1u << lanes) - 1u);
    memset(footprints + i, 0, static_cast<size_t>(lanes) * sizeof *footprints);
    if (!mask) continue;

    const F p = sqrt(bc(0.72134752044448f) * g.yy / g.det);  // conic = inverse covariance, times log2(e) / 2
    store(out[0], mx), store(out[1], my), store(out[2], p), store(out[3], zero - p * (g.xy / g.yy));
    store(out[4], sqrt(bc(0.72134752044448f) / g.yy)), store(out[5], log2(max(opacity, bc(kMinAlpha))));
    store(out[6], red), store(out[7], green), store(out[8], blue), store(out[9], z), store(out[10], ex), store(out[11], ey);
    for (unsigned rest = mask; rest; rest &= rest - 1) {
      const int l = __builtin_ctz(rest);
      float* splat = reinterpret_cast<float*>(splats + i + l);
      for (int k = 0; k < 12; ++k) splat[k] = out[k][l];
      const float x = out[0][l], y = out[1][l], rx = out[10][l], ry = out[11][l];
      const float inv = 1.0f / kTile;
      Footprint range;
      range.x0 = static_cast<uint16_t>(between((x - rx) * inv, 0.0f, tiles_x));
      range.x1 = static_cast<uint16_t>(between((x + rx) * inv + 1.0f, 0.0f, tiles_x));
      range.y0 = static_cast<uint16_t>(between((y - ry) * inv, 0.0f, tiles_y));
      range.y1 = static_cast<uint16_t>(between((y + ry) * inv + 1.0f, 0.0f, tiles_y));
      range.first_slot = static_cast<uint32_t>(result.entries);
      range.count = static_cast<uint32_t>(range.x1 - range.x0) * static_cast<uint32_t>(range.y1 - range.y0);
      result.entries += range.count;
      footprints[i + l] = range;
      uint32_t key;
      memcpy(&key, &out[9][l], sizeof key);
      keys[result.count] = key;
      ids[result.count++] = static_cast<uint32_t>(i + l);
      if (key < result.key_min) result.key_min = key;
      if (key > result.key_max) result.key_max = key;
    }
  }
  return result;
}

// Gradient of the rotation matrix carried to the unnormalised quaternion.
HL_INLINE void quaternion_gradient(const Projected& g, const F (&v)[3][3], F (&out)[4]) {
  const F two = bc(2.0f);
  const F yz = v[2][1] - v[1][2], zx = v[0][2] - v[2][0], xy = v[1][0] - v[0][1];
  const F syz = v[2][1] + v[1][2], szx = v[0][2] + v[2][0], sxy = v[1][0] + v[0][1];
  const F vw = two * (g.a * yz + g.b * zx + g.c * xy);
  const F va = two * (g.w * yz + g.b * sxy + g.c * szx - two * g.a * (v[1][1] + v[2][2]));
  const F vb = two * (g.w * zx + g.a * sxy + g.c * syz - two * g.b * (v[0][0] + v[2][2]));
  const F vc = two * (g.w * xy + g.a * szx + g.b * syz - two * g.c * (v[0][0] + v[1][1]));
  const F along = vw * g.w + va * g.a + vb * g.b + vc * g.c;
  out[0] = (vw - along * g.w) * g.inv_norm;
  out[1] = (va - along * g.a) * g.inv_norm;
  out[2] = (vb - along * g.b) * g.inv_norm;
  out[3] = (vc - along * g.c) * g.inv_norm;
}

struct Gradients {
  F mean[3], quat[4], scale[3], opacity;
  F camera[kCameraGrads];
};

// moments: sums over pixels of v, v dx, v dy, v dx^2, v dx dy, v dy^2 with v = -dL/dsigma; then dL/d red green blue z.
HL_INLINE void gradient16(const Lens& lens, const Projected& g, F opacity, const F (&moments)[10], Gradients& out) {
  const F half = bc(0.5f), zero = bc(0.0f), inv_det = bc(1.0f) / g.det;
  const F ca = g.yy * inv_det, cb = zero - g.xy * inv_det, cc = g.xx * inv_det;  // conic
  out.opacity = moments[0] / max(opacity, bc(kMinAlpha));
  const F gx = zero - (ca * moments[1] + cb * moments[2]), gy = zero - (cb * moments[1] + cc * moments[2]);
  // dL/dcov = -conic G conic with G = -1/2 [[Sxx, Sxy], [Sxy, Syy]].
  const F h00 = ca * moments[3] + cb * moments[4], h01 = ca * moments[4] + cb * moments[5];
  const F h10 = cb * moments[3] + cc * moments[4], h11 = cb * moments[4] + cc * moments[5];
  const F vxx = half * (h00 * ca + h01 * cb), vxy = half * (h00 * cb + h01 * cc), vyy = half * (h10 * cb + h11 * cc);
  F vU[2][3], vP[2][3], vrot[3][3];
  for (int k = 0; k < 3; ++k) {
    const F q0 = vxx * g.Q[0][k] + vxy * g.Q[1][k], q1 = vxy * g.Q[0][k] + vyy * g.Q[1][k];
    const F two_scale = bc(2.0f) * g.scale[k];
    out.scale[k] = bc(2.0f) * (q0 * g.U[0][k] + q1 * g.U[1][k]);
    vU[0][k] = q0 * two_scale, vU[1][k] = q1 * two_scale;
  }
  for (int j = 0; j < 3; ++j) {
    for (int r = 0; r < 2; ++r) vP[r][j] = dot3(vU[r], g.rot[j]);
    for (int k = 0; k < 3; ++k) vrot[j][k] = g.P[0][j] * vU[0][k] + g.P[1][j] * vU[1][k];
  }
  quaternion_gradient(g, vrot, out.quat);

  const F fx = bc(lens.fx), fy = bc(lens.fy);
  const F jx = fx * g.iz, jy = fy * g.iz;  // J = [[jx, 0, -jx tan_x], [0, jy, -jy tan_y]]
  F v00 = zero, v02 = zero, v11 = zero, v12 = zero;
  for (int k = 0; k < 3; ++k) {
    v00 = fma(vP[0][k], bc(lens.R[0][k]), v00), v02 = fma(vP[0][k], bc(lens.R[2][k]), v02);
    v11 = fma(vP[1][k], bc(lens.R[1][k]), v11), v12 = fma(vP[1][k], bc(lens.R[2][k]), v12);
  }
  const F raw_x = g.x * g.iz, raw_y = g.y * g.iz;
  const M out_x = raw_x != g.tan_x, out_y = raw_y != g.tan_y;
  const F vjx = v00 - v02 * g.tan_x, vjy = v11 - v12 * g.tan_y;
  const F vtx = zero - v02 * jx, vty = zero - v12 * jy;  // of the clamped tangents
  const F vx = gx * jx + keep(raw_x >= g.tan_x, keep(g.tan_x >= raw_x, vtx * g.iz));
  const F vy = gy * jy + keep(raw_y >= g.tan_y, keep(g.tan_y >= raw_y, vty * g.iz));
  const F vz = moments[9] - g.iz * (vjx * jx + vjy * jy) - raw_x * vx - raw_y * vy;
  const F v_camera[3] = {vx, vy, vz};
  for (int k = 0; k < 3; ++k)
    out.mean[k] = vx * bc(lens.R[0][k]) + vy * bc(lens.R[1][k]) + vz * bc(lens.R[2][k]);

  const F point[3] = {g.X, g.Y, g.Z};
  for (int k = 0; k < 3; ++k) {
    out.camera[k] = v_camera[0] * point[k] + jx * vP[0][k];
    out.camera[4 + k] = v_camera[1] * point[k] + jy * vP[1][k];
    out.camera[8 + k] = v_camera[2] * point[k] - jx * g.tan_x * vP[0][k] - jy * g.tan_y * vP[1][k];
    out.camera[4 * k + 3] = v_camera[k];
  }
  // The clamps' limits (1.15 width - cx) / fx and -(0.15 width + cx) / fx depend on the lens too.
  const F ix = bc(1.0f / lens.fx), iy = bc(1.0f / lens.fy);
  out.camera[12] = gx * raw_x + vjx * g.iz - keep(out_x, vtx * g.tan_x * ix);
  out.camera[13] = gy * raw_y + vjy * g.iz - keep(out_y, vty * g.tan_y * iy);
  out.camera[14] = gx - keep(out_x, vtx * ix);
  out.camera[15] = gy - keep(out_y, vty * iy);
}

HL_INLINE void add_strided(float* p, int stride, F value, int lanes) {
  alignas(64) float out[16];
  store(out, value);
  for (int l = 0; l < lanes; ++l) p[l * stride] += out[l];
}

// Sums of the moments of Gaussian i over the tiles that drew it.
HL_INLINE F collect(const Picture& pic, const Moments& moments, int64_t i) {
  F sum = bc(0.0f);
  const Footprint& own = pic.footprints[i];
  for (uint32_t slot = own.first_slot; slot < own.first_slot + own.count; ++slot)
    if (moments.drawn[slot]) sum = sum + load(moments.lines + static_cast<int64_t>(slot) * kGradLine);
  return sum;
}

void project_backward(const HlScene& scene, const Lens& lens, const Picture& pic, const Moments& moments, int64_t begin,
                      int64_t end, const HlSceneGrads& out, double* camera_grads) {
  const F zero = bc(0.0f);
  alignas(64) float moments_of[16][kGradLine], drawn_of[16];
  for (int k = 0; k < kCameraGrads; ++k) camera_grads[k] = 0.0;
  for (int64_t i = begin; i < end; i += 16) {
    const int lanes = static_cast<int>(end - i < 16 ? end - i : 16);
    unsigned touched = 0;
    for (int l = 0; l < 16; ++l) {
      const F sum = l < lanes ? collect(pic, moments, i + l) : zero;
      const unsigned nonzero = bits(sum != zero);
      store(moments_of[l], sum);
      drawn_of[l] = nonzero ? 1.0f : 0.0f;
      touched |= nonzero;
    }
    if (!touched) continue;
    F sums[10];
    for (int k = 0; k < 10; ++k) sums[k] = gather(&moments_of[0][k], kGradLine, 16);

    Projected g;
    F z;
    project16(scene, lens, i, lanes, g, z);
    Gradients grads;
    gradient16(lens, g, gather(scene.opacities + i, 1, lanes), sums, grads);
    // Gaussians that were not drawn may be anywhere, even where the projection is not finite.
    const M drawn = load(drawn_of) > zero;
    for (int k = 0; k < 3; ++k) {
      if (out.means) add_strided(out.means + 3 * i + k, 3, keep(drawn, grads.mean[k]), lanes);
      if (out.scales) add_strided(out.scales + 3 * i + k, 3, keep(drawn, grads.scale[k]), lanes);
      if (out.colors) add_strided(out.colors + 3 * i + k, 3, keep(drawn, sums[6 + k]), lanes);
    }
    for (int k = 0; k < 4 && out.quats; ++k) add_strided(out.quats + 4 * i + k, 4, keep(drawn, grads.quat[k]), lanes);
    if (out.opacities) add_strided(out.opacities + i, 1, keep(drawn, grads.opacity), lanes);
    for (int k = 0; k < kCameraGrads; ++k) {
      alignas(64) float part[16];
      store(part, keep(drawn, grads.camera[k]));
      float sum = 0.0f;
      for (float x : part) sum += x;
      camera_grads[k] += static_cast<double>(sum);
    }
  }
}

}  // namespace
