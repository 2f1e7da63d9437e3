#pragma once
// Large pages for the rows of a head: gigabytes read in order, which would cost a page-table walk
// every few rows.

#include <cstddef>
#include <cstdint>

#include <sys/mman.h>

namespace fr {

// A wish: the kernel may have none, and nothing depends on it. Before the memory is first touched.
inline void AdviseHugePages(void* data, std::size_t bytes) {
  constexpr std::uintptr_t kPage = 2U << 20U;
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

}  // namespace fr
