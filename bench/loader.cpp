// Decoded and augmented images per second of one thread, next to libjpeg-turbo alone, and to OpenCV
// and Pillow where a Python that has them is given.
//
//   bench_loader [--set DIR] [--rounds N] [--seconds S] [--python PYTHON]
//   bench_loader --records 5000000 [--threads T]
//
// Without --set, synthetic faces are drawn. All candidates take turns on the same images in the
// same order, so that the machine's moods hit all; medians are printed. With --records: memory over
// one epoch of so many. Their index is real; the records lie in a sparse file, where 4096 pictures
// of 32 x 32 pixels are shared by all keys.

#include "worker/data/loader.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <turbojpeg.h>

#include <CLI/CLI.hpp>

#include "bench/measure.h"
#include "common/base/command_output.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "common/base/temporary_directory.h"
#include "common/cli/run_command.h"
#include "worker/data/images/image.h"
#include "worker/data/records/record_set.h"
#include "worker/data/records/record_set_writer.h"
#include "worker/data/records/record_writer.h"
#include "worker/data/sample_order.h"
#include "worker/data/synth/synthetic_set.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Setting {
  std::string set;
  int rounds = 5;
  double seconds = 2;  // of each candidate in a round
  std::string python;  // with cv2 and PIL; "": without them
  std::int64_t records = 0;
  int threads = 2;
};

// libjpeg-turbo, its decoder and its buffer made once: nothing that reads JPEGs can be faster.
double DecodeAlone(const TrainingSet& set, double seconds) {
  const std::unique_ptr<void, int (*)(void*)> decoder(tjInitDecompress(), tjDestroy);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(set.height()) *
                                   static_cast<std::size_t>(set.width()) * 3);
  const SampleOrder order(1, 0, set.num_images());
  Sample sample;
  const Clock::time_point start = Clock::now();
  std::int64_t images = 0;
  while (images % 64 != 0 || SecondsSince(start) < seconds) {
    set.Read(order[images++ % set.num_images()], &sample);
    if (tjDecompress2(decoder.get(), reinterpret_cast<const unsigned char*>(sample.image.data()),
                      sample.image.size(), pixels.data(), set.width(), 0, set.height(), TJPF_RGB,
                      0) != 0) {
      throw Error(ErrorCode::kDataLoss, tjGetErrorStr2(decoder.get()));
    }
  }
  return static_cast<double>(images) / SecondsSince(start);
}

double LoadBatches(const TrainingSet& set, const AugmentOptions& augment, double seconds) {
  LoaderOptions options;
  options.augment = augment;
  options.total_batch = options.slice_end = std::min<std::int64_t>(64, set.num_images());
  Loader loader(set, options);
  Batch batch;
  // What was made ahead of time does not count.
  for (int i = 0; i < 4; ++i) loader.Next(&batch);
  const Clock::time_point start = Clock::now();
  std::int64_t images = 0;
  while (SecondsSince(start) < seconds) {
    loader.Next(&batch);
    images += std::ssize(batch.labels);
  }
  return static_cast<double>(images) / SecondsSince(start);
}

// "opencv 3100.1\npillow 2500.3\n" of bench/loader_reference.py.
std::vector<std::pair<std::string, double>> RunPython(const Setting& setting) {
  const std::string command =
      fmt::format("{} {} {} {}", setting.python, FR_LOADER_REFERENCE, setting.set, setting.seconds);
  std::istringstream answer(OutputOf(command).text);
  std::vector<std::pair<std::string, double>> rates;
  std::string name;
  double rate = 0;
  while (answer >> name >> rate) rates.emplace_back(name, rate);
  if (rates.empty()) {
    throw Error(ErrorCode::kUnavailable, command + ": failed; it needs numpy, cv2 and PIL");
  }
  return rates;
}

void CompareSpeed(Setting setting) {
  const TemporaryDirectory scratch;
  if (setting.set.empty()) {
    SyntheticSetOptions options;
    options.identities = 50;
    options.held_out_identities = 10;
    options.max_pairs = 20;
    options.threads = setting.threads;
    setting.set = (scratch.path() / "faces").string();
    WriteSyntheticSet(setting.set, options);
  }
  const auto set = OpenTrainingSet(setting.set);
  const AugmentOptions all = {0.5, 0.2, 0.2, 0.2, 0.1, 0.1};
  std::vector<std::pair<std::string, std::vector<double>>> rates;
  const auto add = [&rates](const std::string& name, double rate) {
    for (auto& [known, values] : rates) {
      if (known == name) return values.push_back(rate);
    }
    rates.push_back({name, {rate}});
  };
  for (int round = 0; round < setting.rounds; ++round) {
    add("libjpeg-turbo alone", DecodeAlone(*set, setting.seconds));
    add("loader, flip", LoadBatches(*set, {}, setting.seconds));
    add("loader, all augmentations", LoadBatches(*set, all, setting.seconds));
    if (setting.python.empty()) continue;
    for (const auto& [name, rate] : RunPython(setting)) add(name + ", flip", rate);
  }
  const double alone = Median(rates[0].second);
  fmt::print("{:<28} {:>12} {:>24}\n", "", "images/s", "of libjpeg-turbo alone");
  for (const auto& [name, values] : rates) {
    fmt::print("{:<28} {:>12.0f} {:>23.1f}%\n", name, Median(values), 100 * Median(values) / alone);
  }
}

// `records` keys over 4096 pictures, in a file as long as if each had its own.
void WriteSparseSet(const fs::path& directory, std::int64_t records) {
  constexpr int kSide = 32;
  constexpr std::int64_t kPictures = 4096;
  Random random(1);
  RecordSetWriter writer(directory / "small");
  for (std::int64_t i = 0; i < kPictures; ++i) {
    Image image{kSide, kSide, {}};
    for (int k = 0; k < kSide * kSide * 3; ++k) {
      image.pixels.push_back(static_cast<std::uint8_t>(k / 40 + random.Below(30)));
    }
    writer.AddIdentity({EncodeJpeg(image, 90)});
  }
  writer.Finish(kSide, kSide);
  const std::vector<IndexEntry> small = ReadIndex(directory / "small/train.idx");
  fs::create_directories(directory / "large");
  std::ofstream index(directory / "large/train.idx");
  // The small set's first record says how many images there are: its copy is made anew.
  for (std::int64_t key = 1; key <= records; ++key) {
    index << fmt::format("{}\t{}\n", key, small[static_cast<std::size_t>(key % kPictures)].offset);
  }
  const fs::path rec = directory / "large/train.rec";
  fs::copy_file(directory / "small/train.rec", rec);
  const auto size = fs::file_size(rec);
  RecordWriter header(directory / "header.rec", directory / "header.idx");
  header.Write(0, {static_cast<float>(records + 1), static_cast<float>(records + 1)}, "");
  header.Finish();
  std::ofstream(rec, std::ios::app | std::ios::binary) << ReadFile(directory / "header.rec");
  index << fmt::format("0\t{}\n", size);
  WriteFileAtomically(directory / "large/property",
                      fmt::format("{},{},{}\n", kPictures, kSide, kSide));
  fs::resize_file(rec, size / kPictures * static_cast<std::uintmax_t>(records));
}

// Memory of this process that is its own, not the page cache's, in MiB.
double OwnMemory() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("RssAnon:")) return std::stod(line.substr(8)) / 1024;
  }
  return 0;
}

void WatchMemory(const Setting& setting) {
  const TemporaryDirectory scratch;
  WriteSparseSet(scratch.path(), setting.records);
  const auto set = OpenTrainingSet(scratch.path() / "large");
  LoaderOptions options;
  options.total_batch = options.slice_end = 512;
  options.threads = setting.threads;
  Loader loader(*set, options);
  Batch batch;
  const std::int64_t steps = set->num_images() / options.total_batch;
  fmt::print("{} records, batches of {}\n{:>8} {:>10} {:>12}\n", set->num_images(),
             options.total_batch, "epoch", "own MiB", "images/s");
  const Clock::time_point start = Clock::now();
  for (std::int64_t step = 0, tenth = 0; step < steps; ++step) {
    loader.Next(&batch);
    if ((step + 1) * 10 / steps == tenth && step > 0) continue;
    tenth = (step + 1) * 10 / steps;
    fmt::print("{:>6.1f} % {:>10.1f} {:>12.0f}\n",
               100.0 * static_cast<double>(step + 1) / static_cast<double>(steps), OwnMemory(),
               static_cast<double>((step + 1) * options.total_batch) / SecondsSince(start));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of the loader.", "bench_loader");
  fr::Setting setting;
  app.add_option("--set", setting.set, "Training set; synthetic faces without it");
  app.add_option("--rounds", setting.rounds, "Turns of each candidate")->capture_default_str();
  app.add_option("--seconds", setting.seconds, "Of each turn")->capture_default_str();
  app.add_option("--python", setting.python, "A Python that has numpy, cv2 and PIL");
  app.add_option("--records", setting.records, "Memory over an epoch of so many, instead");
  app.add_option("--threads", setting.threads, "Of the loader, with --records")
      ->capture_default_str();
  return fr::RunCommand(app, argc, argv, [&setting] {
    if (setting.records > 0) {
      fr::WatchMemory(setting);
    } else {
      fr::CompareSpeed(setting);
    }
    return fr::kExitDone;
  });
}
