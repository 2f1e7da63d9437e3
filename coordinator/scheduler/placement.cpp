#include "coordinator/scheduler/placement.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace fr::scheduling {
namespace {

// A node that can take workers of the job.
struct Room {
  int node = 0;
  int group = 0;
  std::int64_t workers = 0;
  bool spoils_gpus = false;  // they would occupy slots that GPUs wait for
  std::int64_t free_slots = 0;
};

std::size_t Index(int i) { return static_cast<std::size_t>(i); }

Room RoomOn(int node, const Cluster& cluster, const Free& free, const Need& need) {
  const Amounts& amounts = free[Index(node)];
  return {node, cluster.group(node), WorkersThatFit(amounts, need), !need.gpu && amounts.gpus > 0,
          amounts.slots};
}

// Where a few workers do least harm.
auto Fullest(const Room& room) { return std::tuple(room.spoils_gpus, room.free_slots, room.node); }

// Where many fit.
auto Freest(const Room& room) {
  return std::tuple(-room.workers, room.spoils_gpus, room.free_slots, room.node);
}

// The node that alone takes them all, or -1.
int OneNode(const std::vector<int>& nodes, const Cluster& cluster, const Free& free,
            const Need& need, int workers) {
  Room best;
  best.node = -1;
  for (const int node : nodes) {
    if (free[Index(node)].slots < workers) continue;
    const Room room = RoomOn(node, cluster, free, need);
    if (room.workers < workers) continue;
    if (best.node < 0 || Fullest(room) < Fullest(best)) best = room;
  }
  return best.node;
}

// From the freest on; what then remains goes to the fullest that can take it.
Placement Fill(std::vector<Room> rooms, std::int64_t workers) {
  std::sort(rooms.begin(), rooms.end(),
            [](const Room& a, const Room& b) { return Freest(a) < Freest(b); });
  Placement placement;
  auto next = rooms.begin();
  for (; next != rooms.end() && next->workers < workers; ++next) {
    placement.push_back({next->node, static_cast<int>(next->workers)});
    workers -= next->workers;
  }
  const auto enough = [&](const Room& room) { return room.workers >= workers; };
  const auto last = std::partition(next, rooms.end(), enough);
  const auto best = std::min_element(
      next, last, [](const Room& a, const Room& b) { return Fullest(a) < Fullest(b); });
  if (best == last) return {};
  placement.push_back({best->node, static_cast<int>(workers)});
  return placement;
}

struct Group {
  std::int64_t workers = 0;
  std::vector<Room> rooms;
};

// The one that holds them on the fewest nodes, and has the least left over; or nothing.
Placement WithinOneGroup(const std::vector<Group>& groups, std::int64_t workers) {
  Placement best;
  std::int64_t room_of_best = 0;
  for (const Group& group : groups) {
    if (group.workers < workers) continue;
    Placement placement = Fill(group.rooms, workers);
    if (best.empty() ||
        std::tuple(placement.size(), group.workers) < std::tuple(best.size(), room_of_best)) {
      best = std::move(placement);
      room_of_best = group.workers;
    }
  }
  return best;
}

Placement OverFewestGroups(std::vector<Group> groups, std::int64_t workers) {
  std::stable_sort(groups.begin(), groups.end(),
                   [](const Group& a, const Group& b) { return a.workers > b.workers; });
  std::vector<Room> rooms;
  std::int64_t left = workers;
  auto next = groups.begin();
  for (; next != groups.end() && next->workers < left; ++next) {
    rooms.insert(rooms.end(), next->rooms.begin(), next->rooms.end());
    left -= next->workers;
  }
  if (next == groups.end()) return {};
  // They are in descending order: the last that holds the rest leaves the least over.
  const auto last =
      std::find_if(next, groups.end(), [left](const Group& group) { return group.workers < left; });
  const std::vector<Room>& rest = std::prev(last)->rooms;
  rooms.insert(rooms.end(), rest.begin(), rest.end());
  return Fill(std::move(rooms), workers);
}

}  // namespace

std::int64_t Capacity(const std::vector<int>& nodes, const Free& free, const Need& need,
                      std::int64_t enough) {
  std::int64_t workers = 0;
  for (const int node : nodes) {
    workers += WorkersThatFit(free[Index(node)], need);
    if (workers >= enough) return enough;
  }
  return workers;
}

int MostWorkers(const Job& job, int limit, const Free& free) {
  const std::vector<int>& nodes = job.kind->nodes->open;
  int workers = std::min(limit, job.workers);
  while (workers >= job.min_workers) {
    // With the least that any smaller number needs, so that none of them is passed over.
    Need need = NeedOf(job, workers);
    const std::int64_t memory = need.memory;
    need.memory = LeastMemory(job, workers);
    const int fit = static_cast<int>(Capacity(nodes, free, need, workers));
    if (fit < workers) {
      workers = fit;
      continue;
    }
    if (memory == need.memory) return workers;
    need.memory = memory;
    if (Capacity(nodes, free, need, workers) >= workers) return workers;
    --workers;
  }
  return 0;
}

int FewestWorkers(const Job& job, int limit, const std::vector<int>& nodes, const Free& free) {
  for (int workers = job.min_workers; workers <= std::min(limit, job.workers); ++workers) {
    const Need need = NeedOf(job, workers);
    // More do not fit where fewer do not, but where each of them then needs less.
    if (workers > job.min_workers && need.memory >= NeedOf(job, workers - 1).memory) continue;
    if (Capacity(nodes, free, need, workers) >= workers) return workers;
  }
  return 0;
}

Placement Place(const Job& job, int workers, const Cluster& cluster, const Free& free) {
  const std::vector<int>& nodes = job.kind->nodes->open;
  const Need need = NeedOf(job, workers);
  const int one = OneNode(nodes, cluster, free, need, workers);
  if (one >= 0) return {{one, workers}};
  std::map<int, Group> by_number;
  for (const int node : nodes) {
    const Room room = RoomOn(node, cluster, free, need);
    if (room.workers == 0) continue;
    Group& group = by_number[room.group];
    group.workers += room.workers;
    group.rooms.push_back(room);
  }
  std::vector<Group> groups;
  groups.reserve(by_number.size());
  for (auto& [number, group] : by_number) groups.push_back(std::move(group));
  Placement placement = WithinOneGroup(groups, workers);
  if (placement.empty()) placement = OverFewestGroups(std::move(groups), workers);
  std::sort(placement.begin(), placement.end(), [&](const Portion& a, const Portion& b) {
    return std::pair(cluster.group(a.node), a.node) < std::pair(cluster.group(b.node), b.node);
  });
  return placement;
}

void Take(const Job& job, int workers, const Placement& placement, Free* free) {
  const Need need = NeedOf(job, workers);
  for (const Portion& portion : placement) {
    Take(portion.workers, need, &(*free)[Index(portion.node)]);
  }
}

void TakeLeast(const Job& job, const Cluster& cluster, Free* free) {
  const int workers = FewestWorkers(job, job.workers, job.kind->nodes->open, *free);
  if (workers > 0) Take(job, workers, Place(job, workers, cluster, *free), free);
}

GpuNumbers::GpuNumbers(const Cluster& cluster, const std::vector<Job>& running) {
  for (int i = 0; i < cluster.size(); ++i) {
    used_.emplace_back(static_cast<std::size_t>(std::max(cluster.node(i).gpus, 0)));
  }
  for (const Job& job : running) {
    for (const NodeSlots& slots : job.view->placement) {
      const int node = cluster.Find(slots.node());
      if (node < 0) continue;
      std::vector<bool>& used = used_[Index(node)];
      for (const int gpu : slots.gpus()) {
        if (gpu >= 0 && Index(gpu) < used.size()) used[Index(gpu)] = true;
      }
    }
  }
}

std::vector<int> GpuNumbers::Take(int node, int count) {
  std::vector<bool>& used = used_[Index(node)];
  std::vector<int> numbers;
  for (std::size_t gpu = 0; gpu < used.size() && std::ssize(numbers) < count; ++gpu) {
    if (used[gpu]) continue;
    used[gpu] = true;
    numbers.push_back(static_cast<int>(gpu));
  }
  return numbers;
}

}  // namespace fr::scheduling
