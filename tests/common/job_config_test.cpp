#include "common/config/job_config.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"

namespace fr {
namespace {

using testing::HasSubstr;

class JobConfigTest : public testing::Test {
 protected:
  JobConfig Load(const std::string& text, const std::vector<std::string>& overrides = {},
                 PathCheck check = PathCheck::kIgnore) {
    WriteFileAtomically(path(), text);
    return LoadJobConfig(path(), overrides, check);
  }

  std::string Mistakes(const std::string& text, const std::vector<std::string>& overrides = {},
                       PathCheck check = PathCheck::kIgnore) {
    return FormatDiagnostics(Load(text, overrides, check).diagnostics);
  }

  std::filesystem::path path() const { return directory_.path() / "job.yaml"; }

  TemporaryDirectory directory_;
};

TEST_F(JobConfigTest, AShortFileIsAWholeJob) {
  const JobConfig config = Load("name: x\ndata: {train: faces}\n");
  EXPECT_EQ(FormatDiagnostics(config.diagnostics), "");
  EXPECT_EQ(config.spec.data().train(), (directory_.path() / "faces").string());
  EXPECT_EQ(config.spec.model().network(), Network::r50);
  EXPECT_EQ(config.spec.optimizer().weight_decay(), 5e-4);
}

TEST_F(JobConfigTest, ValuesAreRead) {
  const JobConfig config = Load(
      "name: x\ndata: {train: /f, validation: [lfw, sets/a.bin], augment: {flip: 0, blur: 0.1}}\n"
      "optimizer: {lr: 1e-2, schedule: {type: step, steps: [10, 20]}}\n"
      "restart: {stall_timeout: 90s}\nmodel: {network: mbf}\n",
      {"data.batch_size=7", "optimizer.schedule.steps=[5]"});
  EXPECT_EQ(FormatDiagnostics(config.diagnostics), "");
  EXPECT_EQ(config.spec.restart().stall_timeout_ms(), 90'000);
  EXPECT_EQ(config.spec.optimizer().lr(), 0.01);
  EXPECT_THAT(config.spec.optimizer().schedule().steps(), testing::ElementsAre(5));
  EXPECT_EQ(config.spec.data().batch_size(), 7);
  EXPECT_EQ(config.spec.data().augment().flip(), 0);
  EXPECT_EQ(config.spec.data().augment().blur(), 0.1);
  EXPECT_EQ(VerificationSetPath(config.spec.data(), config.spec.data().validation(0)),
            "/f/lfw.bin");
  EXPECT_EQ(config.spec.data().validation(1), (directory_.path() / "sets/a.bin").string());
}

// Each by line and column, with what would be right.
TEST_F(JobConfigTest, MistakesAreNamedByPlaceAndRemedy) {
  const std::string text = Mistakes(
      "name: x\n"
      "data:\n"
      "  train: /f\n"
      "  batch_sise: 32\n"
      "loss: {margin: -0.5}\n"
      "train: {epochs: two}\n"
      "model: {network: r51}\n"
      "restart: {stall_timeout: 5}\n");
  EXPECT_THAT(text, HasSubstr("job.yaml:4:3: data.batch_sise"));
  EXPECT_THAT(text, HasSubstr("batch_size"));
  EXPECT_THAT(text, HasSubstr("job.yaml:5:16: loss.margin"));
  EXPECT_THAT(text, HasSubstr("job.yaml:6:17: train.epochs: expected a whole number"));
  EXPECT_THAT(text, HasSubstr("job.yaml:7:18: model.network"));
  EXPECT_THAT(text, HasSubstr("r50"));
  EXPECT_THAT(text, HasSubstr("job.yaml:8:26: restart.stall_timeout"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
}

TEST_F(JobConfigTest, OptionsThatANetworkLacksAreMistakes) {
  const auto mistakes = [&](const std::string& model) {
    return Mistakes("name: x\ndata: {train: /f}\nmodel: " + model + "\n");
  };
  EXPECT_EQ(mistakes("{network: r50, squeeze_excite: true, output: GAP}"), "");
  EXPECT_EQ(mistakes("{network: mbf, output: E, dropout: 0.4}"), "");
  EXPECT_EQ(mistakes("{network: d121, precision: bf16, recompute: true}"), "");
  EXPECT_THAT(mistakes("{network: mbf, squeeze_excite: true}"),
              HasSubstr("job.yaml:3:39: model.squeeze_excite: mbf has none"));
  EXPECT_THAT(mistakes("{network: vit_t, output: GAP}"), HasSubstr("model.output"));
  EXPECT_THAT(mistakes("{network: mbf, dropout: 0.4}"), HasSubstr("model.dropout"));
  EXPECT_THAT(mistakes("{network: vit_b, dropout: 0.4}"), HasSubstr("model.dropout"));
  EXPECT_THAT(mistakes("{network: r50, output: H}"), HasSubstr("E, GAP, FC, GDC"));
}

TEST_F(JobConfigTest, WhatDoesNotGoTogetherIsAMistake) {
  const std::string start = "name: x\ndata: {train: /f, validation: [lfw]";
  EXPECT_THAT(Mistakes(start + ", batch_size: 4, total_batch_size: 8}\n"),
              HasSubstr("data.total_batch_size"));
  EXPECT_THAT(Mistakes(start + "}\noptimizer: {schedule: {type: step}}\n"), HasSubstr("steps"));
  EXPECT_THAT(Mistakes(start + "}\noptimizer: {schedule: {type: step, steps: [5, 5]}}\n"),
              HasSubstr("ascend"));
  EXPECT_THAT(Mistakes(start + "}\noptimizer: {schedule: {steps: [5]}}\n"), HasSubstr("type step"));
  EXPECT_THAT(Mistakes(start + "}\ncheckpoint: {keep_best: agedb_30}\n"), HasSubstr("keep_best"));
  EXPECT_THAT(Mistakes(start + ", total_batch_size: 2}\nresources: {workers: 4}\n"),
              HasSubstr("4 workers"));
  EXPECT_THAT(Mistakes(start + "}\nresources: {workers: 2, min_workers: 3}\n"),
              HasSubstr("resources.min_workers: 3 is more than resources.workers, 2"));
  EXPECT_THAT(Mistakes(start + "}\nresources: {labels: [a100, '']}\n"),
              HasSubstr("resources.labels[1]"));
  // 12 images in 4 parts: by 1, 2 and 3 workers, but not by 4.
  EXPECT_THAT(Mistakes(start + ", total_batch_size: 12}\ntrain: {accumulate: 4}\n"
                               "resources: {workers: 4, min_workers: 1}\n"),
              HasSubstr("by 4 workers"));
  EXPECT_THAT(Mistakes("name: ../x\ndata: {train: /f}\n"), HasSubstr("name"));
  EXPECT_THAT(Mistakes("name: x\n"), HasSubstr("data"));
  EXPECT_THAT(Mistakes("name: x\nname: y\ndata: {train: /f}\n"), HasSubstr("job.yaml:2"));
}

// The numbers of InsightFace's first train_softmax.py, and AM-Softmax as CosFace's other name.
TEST_F(JobConfigTest, LossTypesHaveTheirOldNumbers) {
  const auto type = [&](const std::string& text) {
    const JobConfig config = Load("name: x\ndata: {train: /f}\nloss: {type: " + text + "}\n");
    EXPECT_EQ(FormatDiagnostics(config.diagnostics), "") << text;
    return config.spec.loss().type();
  };
  EXPECT_EQ(type("0"), LossType::softmax);
  EXPECT_EQ(type("1"), LossType::sphereface);
  EXPECT_EQ(type("2"), LossType::cosface);
  EXPECT_EQ(type("4"), LossType::arcface);
  EXPECT_EQ(type("5"), LossType::combined);
  EXPECT_EQ(type("am_softmax"), LossType::cosface);
  EXPECT_EQ(type("adaface"), LossType::adaface);
  EXPECT_THAT(Mistakes("name: x\ndata: {train: /f}\nloss: {type: 12}\n"), HasSubstr("loss.type"));
}

TEST_F(JobConfigTest, WhatALossDoesNotHaveIsAMistake) {
  const std::string start = "name: x\ndata: {train: /f}\nloss: ";
  EXPECT_THAT(Mistakes(start + "{type: softmax, margin: 0.5}\n"), HasSubstr("loss.margin"));
  EXPECT_THAT(Mistakes(start + "{type: combined, margin: 0.5}\n"), HasSubstr("loss.m1"));
  EXPECT_THAT(Mistakes(start + "{type: cosface, margin: 1.5}\n"), HasSubstr("largest for cosface"));
  EXPECT_THAT(Mistakes(start + "{margin: 4}\n"), HasSubstr("largest for arcface"));
  EXPECT_EQ(Mistakes(start + "{type: sphereface, margin: 4}\n"), "");
  EXPECT_THAT(Mistakes(start + "{type: sphereface, scale: 64}\n"), HasSubstr("loss.scale"));
  EXPECT_THAT(Mistakes(start + "{bias: true}\n"), HasSubstr("loss.bias"));
  EXPECT_THAT(Mistakes(start + "{type: adaface, easy_margin: true}\n"), HasSubstr("easy_margin"));
  EXPECT_THAT(Mistakes(start + "{type: curricularface, filter_threshold: 0.4}\n"),
              HasSubstr("filter_threshold"));
  EXPECT_THAT(Mistakes(start + "{type: magface, magface: {norm_low: 120}}\n"),
              HasSubstr("norm_high"));
  EXPECT_THAT(Mistakes(start + "{sample_rate: 0}\n"), HasSubstr("sample_rate"));
}

TEST_F(JobConfigTest, OverridesAreCheckedLikeTheFile) {
  EXPECT_THAT(Mistakes("name: x\ndata: {train: /f}\n", {"optimizer.lr=fast"}),
              HasSubstr("--set optimizer.lr=fast: optimizer.lr"));
  EXPECT_THAT(Mistakes("name: x\ndata: {train: /f}\n", {"optimiser.lr=1"}), HasSubstr("optimizer"));
  EXPECT_NE(Mistakes("name: x\ndata: {train: /f}\n", {"nothing"}), "");
}

TEST_F(JobConfigTest, PathsMustExistWhereTheyAreLookedFor) {
  const std::string job = "name: x\ndata: {train: none, validation: [lfw]}\n";
  EXPECT_EQ(Mistakes(job), "");
  EXPECT_THAT(Mistakes(job, {}, PathCheck::kMustExist), HasSubstr("job.yaml:2:15: data.train"));
  std::filesystem::create_directories(directory_.path() / "none");
  const std::string text = Mistakes(job, {}, PathCheck::kMustExist);
  for (const char* missing : {"train.rec", "train.idx", "property", "lfw.bin"}) {
    EXPECT_THAT(text, HasSubstr(missing));
  }
}

// Any layout that is read will do, seen by the names of its files.
TEST_F(JobConfigTest, TrainingSetsOfEveryLayoutAreFound) {
  const std::filesystem::path base = directory_.path();
  for (const char* folder : {"records", "shards", "folder/ada", "no_index"}) {
    std::filesystem::create_directories(base / folder);
  }
  for (const char* file :
       {"records/train.rec", "records/train.idx", "records/property", "shards/a.tar",
        "shards/lfw.bin", "no_index/train.rec", "no_index/property"}) {
    WriteFileAtomically(base / file, "");
  }
  const auto mistakes = [&](const std::string& data) {
    return Mistakes("name: x\ndata: {" + data + "}\n", {}, PathCheck::kMustExist);
  };
  for (const char* path : {"records", "shards", "shards/a.tar", "folder"}) {
    EXPECT_EQ(mistakes(fmt::format("train: {}", path)), "") << path;
  }
  // Beside the shards, and beside the one shard.
  EXPECT_EQ(mistakes("train: shards, validation: [lfw]"), "");
  EXPECT_EQ(mistakes("train: shards/a.tar, validation: [lfw]"), "");
  EXPECT_THAT(mistakes("train: no_index"), HasSubstr("no train.idx; fr-data index makes it"));
  EXPECT_THAT(mistakes("train: shards/lfw.bin"), HasSubstr("no such directory"));
  EXPECT_THAT(mistakes("train: folder/ada"), HasSubstr("holds no training set"));
}

// Whatever is in the file, it is told in words.
TEST_F(JobConfigTest, WhatIsNoJobIsNoCrash) {
  for (const char* text :
       {"", "[", "a: [1", "- 1", "7", "data: 3", "name: {a: b}", "\t", "a: &a [*a]", "? {a: b} : c",
        "name: !!binary x", "data: {train: [1]}", "\xff\xfe"}) {
    EXPECT_NE(Mistakes(text), "") << text;
  }
  EXPECT_THROW(LoadJobConfig(directory_.path() / "none.yaml", {}, PathCheck::kIgnore), Error);
}

}  // namespace
}  // namespace fr
