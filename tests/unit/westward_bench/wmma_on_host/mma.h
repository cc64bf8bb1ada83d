// What tensorcore.cu uses of CUDA, on the host: each lane of a warp holds whole fragments, and multiplies them by itself.
#pragma once
#include <barrier>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(n)

struct Index { int x = 0, y = 0; };
inline thread_local Index threadIdx, blockIdx;
struct alignas(16) uint4 { uint32_t x, y, z, w; };
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

inline std::barrier<> *block_barrier, *warp_barriers[8];
inline void __syncthreads() { block_barrier->arrive_and_wait(); }
inline void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }

struct Bfloat16 { // holds small whole numbers exactly, as both 16-bit types do
  uint16_t bits;
  Bfloat16() = default;
  Bfloat16(float value) { uint32_t wide; std::memcpy(&wide, &value, 4); bits = wide >> 16; }
  operator float() const { uint32_t wide = uint32_t(bits) << 16; float value; std::memcpy(&value, &wide, 4); return value; }
};

namespace nvcuda::wmma {
struct matrix_a; struct matrix_b; struct accumulator; struct row_major;
enum layout_t { mem_row_major };
template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment { T x[16][16]; };

template <class Fragment> void fill_fragment(Fragment &f, float value) {
  for (auto &row : f.x) for (auto &element : row) element = value;
}
template <class Fragment, class T> void load_matrix_sync(Fragment &f, const T *from, unsigned pitch) {
  for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) f.x[i][j] = from[i * pitch + j];
}
template <class Fragment, class T> void store_matrix_sync(T *to, const Fragment &f, unsigned pitch, layout_t) {
  for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) to[i * pitch + j] = f.x[i][j];
}
template <class D, class A, class B> void mma_sync(D &d, const A &a, const B &b, const D &c) {
  for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) {
    float sum = c.x[i][j];
    for (int p = 0; p < 16; p++) sum += float(a.x[i][p]) * float(b.x[p][j]);
    d.x[i][j] = sum;
  }
}
} // namespace nvcuda::wmma
