// A team of threads that walks through one job together. Teams live as long as the call that makes them: nothing is
// shared between calls, a process may fork, and starting a thread costs less than a hundredth of a picture.
#pragma once
#include <atomic>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headlift {

// Waits a moment in the open, since phases are short, then lets the system have the core.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count), missing_(count) {}

  void wait() {
    const uint32_t turn = turn_.load(std::memory_order_relaxed);
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      missing_.store(count_, std::memory_order_relaxed);
      turn_.fetch_add(1, std::memory_order_release);
      turn_.notify_all();
      return;
    }
    for (int spin = 0; spin < 4000; ++spin) {
      if (turn_.load(std::memory_order_acquire) != turn) return;
#if defined(__x86_64__)
      _mm_pause();
#endif
    }
    while (turn_.load(std::memory_order_acquire) == turn) turn_.wait(turn, std::memory_order_acquire);
  }

 private:
  const int count_;
  std::atomic<int> missing_;
  std::atomic<uint32_t> turn_{0};
};

struct Worker {
  int id, count;
  Barrier* barrier;
  std::atomic<bool>* failed;

  void sync() const { barrier->wait(); }

  // Runs `step` on the first worker while the others wait; false, for everybody, once memory has run out.
  template <class Step>
  bool once(Step&& step) const {
    sync();
    if (id == 0) {
      try {
        step();
      } catch (const std::bad_alloc&) {
        failed->store(true);
      }
    }
    sync();
    return !failed->load();
  }

  // This worker's share of 0..n.
  int64_t begin(int64_t n) const { return n * id / count; }
  int64_t end(int64_t n) const { return n * (id + 1) / count; }
};

// Runs body(worker) on up to `wanted` threads, fewer where the system gives fewer; false where memory ran out.
template <class Body>
bool run_team(int wanted, Body&& body) {
  std::atomic<int> gate{0};
  std::atomic<bool> failed{false};
  Barrier* barrier = nullptr;
  std::vector<std::thread> threads;
  try {
    threads.reserve(static_cast<size_t>(wanted));
    for (int i = 1; i < wanted; ++i) {
      threads.emplace_back([&, i] {
        gate.wait(0);
        body(Worker{i, gate.load(), barrier, &failed});
      });
    }
  } catch (const std::system_error&) {
    // Work with those that did start.
  }
  const int count = static_cast<int>(threads.size()) + 1;
  Barrier meeting(count);
  barrier = &meeting;
  gate.store(count);
  gate.notify_all();
  body(Worker{0, count, barrier, &failed});
  for (std::thread& thread : threads) thread.join();
  return !failed.load();
}

}  // namespace headlift
