// Threads that divide work among themselves while other programs may take their cores from them.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Looks at the others before a waiting thread offers its core to whoever wants it: some ten microseconds.
static const int64_t LOOKS = 400;

static inline void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct alignas(64) Counter {
    std::atomic<int64_t> value{0};
};

// What the threads of one parallel region share: for each thread a counter for each of `works` pieces of work to come.
struct Team {
    int64_t threads, works;
    std::vector<std::atomic<int64_t>> taken;
    Counter arrived, round;

    Team(int64_t threads, int64_t works) : threads(threads), works(works), taken(threads * works) {}
};

// One of them. All walk through the same works and meetings in the same order.
struct Member {
    Team &team;
    int64_t self, works = 0;

    Member(Team &team, int64_t self) : team(team), self(self) {}

    int64_t threads() const { return team.threads; }

    // work(begin, end) for pieces of 0 … count. Each thread goes through a range of its own from its beginning, because
    // memory is read fastest in a row, and then helps the others with theirs: one that lost its core delays a piece and
    // not its share of the whole.
    template <typename Work> void share(int64_t count, int64_t piece, Work work) {
        int64_t pieces = (count + piece - 1) / piece;
        for (int64_t i = 0; i < team.threads; i++) {
            int64_t whose = self + i < team.threads ? self + i : self + i - team.threads;
            int64_t first = pieces * whose / team.threads, size = pieces * (whose + 1) / team.threads - first;
            std::atomic<int64_t> &taken = team.taken[whose * team.works + works];
            while (taken.load(std::memory_order_relaxed) < size) {
                int64_t at = taken.fetch_add(1, std::memory_order_relaxed);
                if (at >= size) break;
                int64_t begin = (first + at) * piece;
                work(begin, begin + piece < count ? begin + piece : count);
            }
        }
        works++;
    }

    // Wait until all are here. A thread that waits long lets others have its core, among them the one it waits for; it
    // does not sleep, because being woken takes longer than most meetings.
    void meet() {
        int64_t now = team.round.value.load(std::memory_order_relaxed);
        if (team.arrived.value.fetch_add(1, std::memory_order_acq_rel) + 1 == team.threads) {
            team.arrived.value.store(0, std::memory_order_relaxed);
            team.round.value.store(now + 1, std::memory_order_release);
            return;
        }
        for (int64_t looks = 0; team.round.value.load(std::memory_order_acquire) == now; looks++) {
            if (looks < LOOKS) pause_briefly();
            else std::this_thread::yield();
        }
    }
};
