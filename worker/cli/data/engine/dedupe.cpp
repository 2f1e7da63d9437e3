#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/checksum.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/temporary_directory.h"
#include "common/cli/progress.h"
#include "common/cli/run_command.h"
#include "common/cli/text.h"
#include "worker/cli/data/engine_commands.h"
#include "worker/data/folders/identity_names.h"
#include "worker/dedupe/cleaned_set.h"
#include "worker/dedupe/identity_centres.h"
#include "worker/dedupe/match.h"
#include "worker/dedupe/overlaps.h"
#include "worker/model/embed.h"
#include "worker/model/import.h"

namespace fr {
namespace {

namespace fs = std::filesystem;

// Of each identity, in the report.
constexpr std::size_t kTopMatches = 10;

// A set, what its identities are called and how many images each has.
struct NamedSet {
  std::unique_ptr<const TrainingSet> set;
  std::vector<std::string> names;
  std::vector<std::int64_t> images;

  explicit NamedSet(const std::string& path) : set(OpenTrainingSet(path)) {
    if (set->height() != kImageSide || set->width() != kImageSide) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{0}: its faces are {1} x {2} pixels; models take {3} x {3}", path,
                              set->width(), set->height(), kImageSide));
    }
    if (fs::is_directory(path)) names = ReadIdentityNames(path, set->num_identities());
    images = set->ImagesByIdentity().counts();
  }

  std::string Name(std::int64_t identity) const {
    return names.empty() ? std::to_string(identity) : names[static_cast<std::size_t>(identity)];
  }
  std::int64_t Images(std::int64_t identity) const {
    return images[static_cast<std::size_t>(identity)];
  }
};

std::string FingerprintOf(const Model& model) {
  Checksum checksum;
  for (const auto& [name, tensor] : model.state().Named()) {
    const at::Tensor dense = tensor.contiguous();
    checksum.Update(dense.const_data_ptr(), dense.nbytes());
  }
  const Preprocessing& pixels = model.info().preprocessing;
  return fmt::format("{} {:016x} {} {}", DescribeSpec(model.info().spec), checksum.Value(),
                     pixels.mean, pixels.std);
}

// Its first and last image stand for a set's content. Unlike set_fingerprint.h's, without its path
// and times: centres cost hours, and are still right when the set has moved.
std::string ContentOf(const TrainingSet& set) {
  Sample first;
  Sample last;
  set.Read(0, &first);
  set.Read(set.num_images() - 1, &last);
  return fmt::format("{} {} {:016x} {:016x}", set.num_images(), set.num_identities(),
                     ChecksumOf(first.image), ChecksumOf(last.image));
}

// Where centres lie: a directory that stays, or a temporary one.
class CentreDirectory {
 public:
  explicit CentreDirectory(const DedupeCommand& command) {
    if (!command.centres.empty()) {
      path_ = command.centres;
    } else if (!command.out.empty()) {
      path_ = command.out + ".centres";
    } else if (!command.report.empty()) {
      path_ = command.report + ".centres";
    } else {
      path_ = temporary_.emplace().path();
    }
    MakeDirectories(path_);
  }

  const fs::path& path() const { return path_; }
  bool temporary() const { return temporary_.has_value(); }

 private:
  fs::path path_;
  std::optional<TemporaryDirectory> temporary_;
};

CentreFile CentresOf(const NamedSet& named, const Model& model, const DedupeCommand& command,
                     const fs::path& path) {
  CentreFileWriter writer(path, {FingerprintOf(model) + "\n" + ContentOf(*named.set),
                                 named.set->num_identities(), model.info().spec.embedding_size()});
  CentreOptions options{command.batch, command.threads, command.skip_broken,
                        ReportOnStderr("embed", "images")};
  if (writer.done() > 0) {
    options.report.say(fmt::format("{} of {} identities are in {}", CountText(writer.done()),
                                   CountText(named.set->num_identities()), path.string()));
  }
  const std::int64_t broken = ComputeCentres(
      *named.set, MakeEmbedFunction(model, {at::kFloat, command.batch}), options, &writer);
  if (broken > 0) options.report.say(fmt::format("{} broken images left out", CountText(broken)));
  return CentreFile(path);
}

std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

std::string CsvReport(const std::vector<Match>& matches, const NamedSet& set,
                      const NamedSet& other) {
  std::string text = "identity,name,images,other_identity,other_name,other_images,cosine\n";
  for (const Match& match : matches) {
    text += fmt::format("{},{},{},{},{},{},{:.6f}\n", match.left, CsvField(set.Name(match.left)),
                        set.Images(match.left), match.right, CsvField(other.Name(match.right)),
                        other.Images(match.right), match.cosine);
  }
  return text;
}

std::string JsonReport(const std::vector<Match>& matches, const NamedSet& set,
                       const NamedSet& other) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const Match& match : matches) {
    list.push_back({{"identity", match.left},
                    {"name", set.Name(match.left)},
                    {"images", set.Images(match.left)},
                    {"other_identity", match.right},
                    {"other_name", other.Name(match.right)},
                    {"other_images", other.Images(match.right)},
                    {"cosine", match.cosine}});
  }
  return list.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A mistake is found before hours of work.
void CheckCommand(const DedupeCommand& command) {
  if (!command.other.empty() && command.policy == "merge") {
    throw Error(ErrorCode::kInvalidArgument,
                "--policy merge: is for duplicates within SET; identities that OTHER has, too, can "
                "only be removed");
  }
  const std::string extension = LowerExtension(command.report);
  if (!command.report.empty() && extension != ".csv" && extension != ".json") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a report is FILE.csv or FILE.json", command.report));
  }
}

void WriteReport(const DedupeCommand& command, const std::vector<Match>& matches,
                 const NamedSet& set, const NamedSet& other) {
  if (command.report.empty()) return;
  WriteFileAtomically(command.report, LowerExtension(command.report) == ".json"
                                          ? JsonReport(matches, set, other)
                                          : CsvReport(matches, set, other));
}

struct Found {
  BestMatches best;
  std::vector<bool> matched;  // identities of the set that match any
  SameIdentities same;        // within the set

  explicit Found(std::int64_t identities)
      : best(identities, kTopMatches),
        matched(static_cast<std::size_t>(identities)),
        same(identities) {}
};

Found Find(const CentreFile& left, const CentreFile& right, bool within, double threshold) {
  Found found(left.num_identities());
  const WorkReport report = ReportOnStderr("compare", "identities");
  FindOverlaps(
      left, right, within, threshold,
      [&found, within](const Match& match) {
        found.best.Add(match);
        found.matched[static_cast<std::size_t>(match.left)] = true;
        if (!within) return;
        found.matched[static_cast<std::size_t>(match.right)] = true;
        found.same.Join(match.left, match.right);
      },
      report.progress);
  return found;
}

void Clean(const DedupeCommand& command, const NamedSet& set, Found* found) {
  std::vector<std::int64_t> labels;
  if (command.other.empty()) {
    const auto policy =
        command.policy == "merge" ? DuplicatePolicy::kMerge : DuplicatePolicy::kRemove;
    labels = LabelsOfDistinct(&found->same, set.images, policy);
  } else {
    labels = LabelsWithout(found->matched);
  }
  const CleanedSet cleaned = WriteCleanedSet(*set.set, std::move(labels), set.names, command.out,
                                             ReportOnStderr("write", "identities"));
  fmt::print("cleaned set: {} identities, {} images\n", CountText(cleaned.num_identities),
             CountText(cleaned.num_images));
}

}  // namespace

int RunDedupe(const DedupeCommand& command) {
  CheckCommand(command);
  at::set_num_threads(command.threads);
  const bool within = command.other.empty();
  const NamedSet set(command.set);
  std::optional<NamedSet> second;
  if (!within) second.emplace(command.other);
  const NamedSet& other = within ? set : *second;
  const std::unique_ptr<Model> model = OpenModel(command.model);
  const CentreDirectory directory(command);
  const CentreFile left = CentresOf(set, *model, command, directory.path() / "set.centres");
  std::optional<CentreFile> right;
  if (!within) right = CentresOf(other, *model, command, directory.path() / "other.centres");
  Found found = Find(left, within ? left : *right, within, command.threshold);
  const auto count = std::count(found.matched.begin(), found.matched.end(), true);
  fmt::print("{} of {} identities {} from cosine {} on; {} matches\n", CountText(count),
             CountText(left.num_identities()),
             within ? "are in the set more than once" : "are in the other set, too",
             command.threshold, CountText(found.best.num_added()));
  WriteReport(command, found.best.Sorted(), set, other);
  if (!command.out.empty()) Clean(command, set, &found);
  if (!directory.temporary()) {
    fmt::print(stderr, "centres are kept in {}: remove it when no other threshold is wanted\n",
               directory.path().string());
  }
  return kExitDone;
}

}  // namespace fr
