// C = alpha A B + beta C on tensor cores by WMMA (compute capability 7.0 and later; bf16 from 8.0): A (m x k) and B (k x n) by rows in
// ELEMENT, C (m x n) by rows in f32, sums in f32. k and n are multiples of 8, so that every read is of 16 bytes; m is any number.
//
// A block of 8 warps computes 128 x 128 of C in steps of 32 along k. A step's tiles lie in shared memory, whose rows are padded by 8 elements
// so that those that a warp reads together fall into different banks. There are two buffers: while a step is multiplied from one, the next is on
// its way from global memory to registers and then to the other. Each warp keeps 64 x 32 of C in 4 x 2 fragments of 16 x 16.
#include <mma.h>
#ifdef WESTWARD_BF16
#include <cuda_bf16.h>
typedef __nv_bfloat16 ELEMENT;
#else
#include <cuda_fp16.h>
typedef __half ELEMENT;
#endif

namespace wmma = nvcuda::wmma;

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 32, WARPS = 8, THREADS = 32 * WARPS;
constexpr int WARP_ROWS = 64, WARP_COLUMNS = 32, F = 16; // F: a fragment's side
constexpr int DOWN = WARP_ROWS / F, ACROSS = WARP_COLUMNS / F;
constexpr int PAD = 8, A_PITCH = DEPTH + PAD, B_PITCH = COLUMNS + PAD;
constexpr int VECTOR = 8; // elements in 16 bytes
constexpr int A_VECTORS = ROWS * DEPTH / VECTOR / THREADS, B_VECTORS = DEPTH * COLUMNS / VECTOR / THREADS;

__device__ inline uint4 read_or_zero(const ELEMENT *matrix, int height, int width, int row, int column) {
  if (row < height && column < width) return *reinterpret_cast<const uint4 *>(matrix + static_cast<long long>(row) * width + column);
  return make_uint4(0, 0, 0, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS)
tensorcore_gemm(const ELEMENT *a, const ELEMENT *b, float *c, int m, int n, int k, float alpha, float beta) {
  __shared__ __align__(32) ELEMENT a_tile[2][ROWS][A_PITCH];
  __shared__ __align__(32) ELEMENT b_tile[2][DEPTH][B_PITCH];
  __shared__ __align__(32) float corner[WARPS][F][F];
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const int first_row = blockIdx.y * ROWS, first_column = blockIdx.x * COLUMNS;
  const int warp_row = warp / (COLUMNS / WARP_COLUMNS) * WARP_ROWS, warp_column = warp % (COLUMNS / WARP_COLUMNS) * WARP_COLUMNS;

  wmma::fragment<wmma::accumulator, F, F, F, float> total[DOWN][ACROSS];
#pragma unroll
  for (int i = 0; i < DOWN; i++)
#pragma unroll
    for (int j = 0; j < ACROSS; j++) wmma::fill_fragment(total[i][j], 0.0f);

  uint4 a_next[A_VECTORS], b_next[B_VECTORS];
  const int steps = (k + DEPTH - 1) / DEPTH;
  for (int step = 0; step <= steps; step++) {
    if (step < steps) {
#pragma unroll
      for (int v = 0; v < A_VECTORS; v++) {
        const int at = thread + v * THREADS, row = at / (DEPTH / VECTOR), column = at % (DEPTH / VECTOR) * VECTOR;
        a_next[v] = read_or_zero(a, m, k, first_row + row, step * DEPTH + column);
      }
#pragma unroll
      for (int v = 0; v < B_VECTORS; v++) {
        const int at = thread + v * THREADS, row = at / (COLUMNS / VECTOR), column = at % (COLUMNS / VECTOR) * VECTOR;
        b_next[v] = read_or_zero(b, k, n, step * DEPTH + row, first_column + column);
      }
    }
    if (step > 0) {
      const int held = (step - 1) % 2;
#pragma unroll
      for (int p = 0; p < DEPTH; p += F) {
        wmma::fragment<wmma::matrix_a, F, F, F, ELEMENT, wmma::row_major> left[DOWN];
        wmma::fragment<wmma::matrix_b, F, F, F, ELEMENT, wmma::row_major> right[ACROSS];
#pragma unroll
        for (int i = 0; i < DOWN; i++) wmma::load_matrix_sync(left[i], &a_tile[held][warp_row + i * F][p], A_PITCH);
#pragma unroll
        for (int j = 0; j < ACROSS; j++) wmma::load_matrix_sync(right[j], &b_tile[held][p][warp_column + j * F], B_PITCH);
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
          for (int j = 0; j < ACROSS; j++) wmma::mma_sync(total[i][j], left[i], right[j], total[i][j]);
      }
    }
    if (step < steps) {
      const int free = step % 2;
#pragma unroll
      for (int v = 0; v < A_VECTORS; v++) {
        const int at = thread + v * THREADS, row = at / (DEPTH / VECTOR), column = at % (DEPTH / VECTOR) * VECTOR;
        *reinterpret_cast<uint4 *>(&a_tile[free][row][column]) = a_next[v];
      }
#pragma unroll
      for (int v = 0; v < B_VECTORS; v++) {
        const int at = thread + v * THREADS, row = at / (COLUMNS / VECTOR), column = at % (COLUMNS / VECTOR) * VECTOR;
        *reinterpret_cast<uint4 *>(&b_tile[free][row][column]) = b_next[v];
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < DOWN; i++)
#pragma unroll
    for (int j = 0; j < ACROSS; j++) { // by way of shared memory: which lane holds which element of a fragment is not defined
      wmma::store_matrix_sync(&corner[warp][0][0], total[i][j], F, wmma::mem_row_major);
      __syncwarp();
      for (int at = lane; at < F * F; at += 32) {
        const int row = first_row + warp_row + i * F + at / F, column = first_column + warp_column + j * F + at % F;
        if (row < m && column < n) {
          float *place = c + static_cast<long long>(row) * n + column;
          const float value = alpha * corner[warp][at / F][at % F];
          *place = beta == 0.0f ? value : value + beta * *place;
        }
      }
      __syncwarp();
    }
}
