// usage: main M N K ALPHA BETA: runs tensorcore_gemm block by block, prints how many elements are wrong.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include TENSORCORE_CU

int main(int, char **argv) {
  const int m = std::atoi(argv[1]), n = std::atoi(argv[2]), k = std::atoi(argv[3]);
  const float alpha = std::atof(argv[4]), beta = std::atof(argv[5]);
  unsigned state = 1;
  auto digit = [&] { state = state * 1664525u + 1013904223u; return float(int(state >> 24) % 17 - 8); };
  // uint4 storage: the kernel reads 16 bytes at a time
  std::vector<uint4> a_bytes(m * k / 8 + 1), b_bytes(k * n / 8 + 1);
  auto *a = reinterpret_cast<ELEMENT *>(a_bytes.data()), *b = reinterpret_cast<ELEMENT *>(b_bytes.data());
  for (int i = 0; i < m * k; i++) a[i] = digit();
  for (int i = 0; i < k * n; i++) b[i] = digit();
  std::vector<float> before(m * n), c(m * n);
  for (int i = 0; i < m * n; i++) { before[i] = digit(); c[i] = beta == 0 ? NAN : before[i]; }

  std::barrier<> all(THREADS);
  block_barrier = &all;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  for (auto &warp : warp_barriers) { warps.push_back(std::make_unique<std::barrier<>>(32)); warp = warps.back().get(); }
  for (int y = 0; y * ROWS < m; y++) for (int x = 0; x * COLUMNS < n; x++) {
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; t++) threads.emplace_back([&, t] {
      threadIdx.x = t; blockIdx.x = x; blockIdx.y = y;
      tensorcore_gemm(a, b, c.data(), m, n, k, alpha, beta);
    });
    for (auto &thread : threads) thread.join();
  }

  int wrong = 0;
  for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {
    float sum = 0;
    for (int p = 0; p < k; p++) sum += float(a[i * k + p]) * float(b[p * n + j]);
    wrong += !(c[i * n + j] == alpha * sum + (beta == 0 ? 0 : beta * before[i * n + j]));
  }
  std::printf("%d\n", wrong);
}
