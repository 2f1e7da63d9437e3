// Pictures whose faces are found and aligned per second, next to facenet-pytorch's MTCNN where a
// Python that has it is given; and how long one picture takes from its bytes to its embedding.
//
//   bench_align [--pictures N] [--rounds R] [--threads T] [--network NAME] [--mtcnn DIR]
//               [--python PYTHON]
//
// The pictures, 250 x 250 pixels as LFW's, show synthetic faces. Both candidates read JPEGs, find
// all faces and their points; ours also aligns and encodes the main one. They take turns in rounds;
// medians are printed. facenet-pytorch takes the pictures one by one, with as many threads, or all
// at once (`batch`), which it can do where all have one size.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include "bench/measure.h"
#include "common/base/command_output.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/parallel.h"
#include "common/base/random.h"
#include "common/base/temporary_directory.h"
#include "common/cli/run_command.h"
#include "common/networks/network.h"
#include "worker/align/mtcnn.h"
#include "worker/data/synth/face.h"
#include "worker/model/embed.h"
#include "worker/model/model.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

struct Setting {
  int pictures = 64;
  int rounds = 3;
  int threads = 2;
  std::string network = "r34";
  std::string mtcnn;
  std::string python;
};

// A face of 125 pixels before a flat background.
std::string DrawPicture(int number) {
  Random random(MixKeys(7, static_cast<std::uint64_t>(number)));
  const Image face = DrawFace(DrawIdentity(random), random);
  Image picture{250, 250, std::vector<std::uint8_t>(250 * 250 * 3, 100)};
  const Image placed = WarpSimilarity(face, {1.12, 0, 62, 62}, 250, 250);
  for (std::size_t i = 0; i < picture.pixels.size(); ++i) {
    if (placed.pixels[i] > 0) picture.pixels[i] = placed.pixels[i];
  }
  return EncodeJpeg(picture, 92);
}

void AlignAll(const Mtcnn& mtcnn, const std::vector<std::string>& pictures, int threads) {
  at::set_num_threads(1);
  ParallelFor(std::ssize(pictures), threads, [&](std::int64_t i) {
    const Image image = DecodeImage(pictures[static_cast<std::size_t>(i)]);
    const std::vector<Face> faces = mtcnn.Detect(image);
    const Face* face = MainFace(faces, image.height, image.width);
    if (face != nullptr) EncodeJpeg(AlignFace(image, face->points, 112), kStoredJpegQuality);
  });
}

// Seconds for all pictures one by one, and in one batch.
std::pair<double, double> Reference(const Setting& setting, const fs::path& directory) {
  const std::string command =
      fmt::format("OMP_NUM_THREADS={0} '{1}' '{2}' '{3}' {0}", setting.threads, setting.python,
                  FR_ALIGN_REFERENCE, directory.string());
  const auto [ended_well, text] = OutputOf(command);
  std::istringstream answer(text);
  double one_by_one = 0;
  double batch = 0;
  if (!ended_well || !(answer >> one_by_one >> batch)) {
    throw Error(ErrorCode::kFailedPrecondition,
                fmt::format("{}: cannot run facenet-pytorch: see its message", setting.python));
  }
  return {one_by_one, batch};
}

void MeasureThroughput(const Setting& setting, const Mtcnn& mtcnn,
                       const std::vector<std::string>& pictures) {
  const TemporaryDirectory directory;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    WriteFileUnsynced(directory.path() / fmt::format("{:05}.jpg", i), pictures[i]);
  }
  std::vector<double> ours;
  std::vector<double> one_by_one;
  std::vector<double> batch;
  for (int round = 0; round < setting.rounds; ++round) {
    const Clock::time_point begin = Clock::now();
    AlignAll(mtcnn, pictures, setting.threads);
    ours.push_back(SecondsSince(begin));
    if (setting.python.empty()) continue;
    const auto [single, all] = Reference(setting, directory.path());
    one_by_one.push_back(single);
    batch.push_back(all);
  }
  const double count = setting.pictures;
  fmt::print("align            {:8.1f} pictures/s, {} threads\n", count / Median(ours),
             setting.threads);
  if (setting.python.empty()) return;
  fmt::print("facenet-pytorch  {:8.1f} pictures/s one by one: ratio {:.2f}\n",
             count / Median(one_by_one), Median(one_by_one) / Median(ours));
  fmt::print("                 {:8.1f} pictures/s in a batch: ratio {:.2f}\n",
             count / Median(batch), Median(batch) / Median(ours));
}

void MeasureLatency(const Setting& setting, const Mtcnn& mtcnn,
                    const std::vector<std::string>& pictures) {
  at::set_num_threads(setting.threads);
  ModelInfo info;
  Network network = Network::r34;
  if (!Network_Parse(setting.network, &network)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: no such network", setting.network));
  }
  info.spec.set_network(network);
  info.spec.set_embedding_size(512);
  Model model(info);
  model.state().Initialise(model.graph(), 1);
  const EmbedFunction embed = MakeEmbedFunction(model, {at::kFloat, 1});
  std::vector<double> align;
  std::vector<double> both;
  for (const std::string& picture : pictures) {
    const Clock::time_point begin = Clock::now();
    const Image image = DecodeImage(picture);
    const std::vector<Face> faces = mtcnn.Detect(image);
    const Face* face = MainFace(faces, image.height, image.width);
    if (face == nullptr) continue;
    Image aligned = AlignFace(image, face->points, 112);
    align.push_back(SecondsSince(begin));
    embed({112, 112, std::move(aligned.pixels), {0}});
    both.push_back(SecondsSince(begin));
  }
  if (both.empty()) return;
  fmt::print("one picture      {:8.2f} ms to the aligned face, {:.2f} ms to the embedding of {}\n",
             1e3 * Median(align), 1e3 * Median(both), setting.network);
}

int Run(const Setting& setting) {
  std::vector<std::string> pictures;
  for (int i = 0; i < setting.pictures; ++i) pictures.push_back(DrawPicture(i));
  const Mtcnn mtcnn(MtcnnDirectory(setting.mtcnn));
  AlignAll(mtcnn, {pictures.front()}, 1);
  MeasureThroughput(setting, mtcnn, pictures);
  MeasureLatency(setting, mtcnn, pictures);
  return kExitDone;
}

}  // namespace
}  // namespace fr

int main(int argc, char** argv) {
  fr::Setting setting;
  CLI::App app("Pictures aligned per second.", "bench_align");
  app.add_option("--pictures", setting.pictures, "Pictures")->check(CLI::Range(1, 100'000));
  app.add_option("--rounds", setting.rounds, "Turns of each")->check(CLI::Range(1, 1000));
  app.add_option("--threads", setting.threads, "Threads of each")->check(CLI::Range(1, 1024));
  app.add_option("--network", setting.network, "For the latency");
  app.add_option("--mtcnn", setting.mtcnn, "Weights, as fr-data align takes them");
  app.add_option("--python", setting.python, "One that has facenet-pytorch");
  return fr::RunCommand(app, argc, argv, [&setting] { return fr::Run(setting); });
}
