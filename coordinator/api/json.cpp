#include "coordinator/api/json.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <nlohmann/json.hpp>

#include "common/config/job_config.h"
#include "coordinator/jobs/demand.h"
#include "coordinator/jobs/job_state.h"
#include "coordinator/jobs/job_view.h"

namespace fr {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;

json ElementJson(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetRepeatedInt32(message, field, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->GetRepeatedInt64(message, field, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetRepeatedUInt32(message, field, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->GetRepeatedUInt64(message, field, index);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->GetRepeatedDouble(message, field, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->GetRepeatedFloat(message, field, index);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetRepeatedBool(message, field, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetRepeatedEnum(message, field, index)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetRepeatedString(message, field, index);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageJson(reflection->GetRepeatedMessage(message, field, index));
  }
  return nullptr;
}

// The value that is set, or the schema's default.
json SingularJson(const Message& message, const FieldDescriptor* field) {
  const Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->GetFloat(message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetEnum(message, field)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageJson(reflection->GetMessage(message, field));
  }
  return nullptr;
}

bool IsKnown(const Message& message, const FieldDescriptor* field) {
  return message.GetReflection()->HasField(message, field) || field->has_default_value() ||
         field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

std::string AccuracyMetricName(const std::string& entry) {
  return fmt::format("val/{}/accuracy", VerificationSetName(entry));
}

// A time or a message that is null until it happened.
json TimeJson(bool known, std::int64_t time_ms) {
  return known && time_ms > 0 ? json(time_ms) : json(nullptr);
}

json AccuraciesJson(const std::vector<ValidationResult>& results) {
  json list = json::array();
  for (const ValidationResult& result : results) {
    list.push_back(
        {{"set", result.set()}, {"step", result.step()}, {"accuracy", result.accuracy()}});
  }
  return list;
}

json ValidationSetsJson(const JobSpec& spec) {
  json names = json::array();
  for (const std::string& entry : spec.data().validation()) {
    names.push_back(VerificationSetName(entry));
  }
  return names;
}

json TransitionJson(const Transition& transition) {
  return {{"from", transition.has_from() ? json(JobState_Name(transition.from())) : json(nullptr)},
          {"to", JobState_Name(transition.to())},
          {"time_ms", transition.time_ms()},
          {"reason", transition.reason()},
          {"attempt", transition.attempt()}};
}

json FileJson(const CheckpointFile& file) {
  json identities = nullptr;
  if (file.has_identities()) {
    identities = {{"begin", file.identities().begin()}, {"end", file.identities().end()}};
  }
  // A checksum is no quantity, and JavaScript's numbers would round it.
  return {{"name", file.name()},
          {"bytes", file.bytes()},
          {"xxh3", fmt::format("{:016x}", file.xxh3())},
          {"identities", identities}};
}

json CheckpointJson(const CheckpointManifest& manifest) {
  json files = json::array();
  std::int64_t bytes = 0;
  for (const CheckpointFile& file : manifest.files()) {
    files.push_back(FileJson(file));
    bytes += file.bytes();
  }
  json validation = json::array();
  for (const ValidationResult& result : manifest.validation()) {
    validation.push_back(MessageJson(result));
  }
  return {{"step", manifest.step()},
          {"epoch", manifest.epoch()},
          {"samples_in_epoch", manifest.samples_in_epoch()},
          {"created_ms", manifest.created_ms()},
          {"directory", manifest.directory()},
          {"pinned", manifest.pinned()},
          {"network", Network_Name(manifest.model().network())},
          {"embedding_size", manifest.model().embedding_size()},
          {"num_identities", manifest.num_identities()},
          {"total_batch_size", manifest.total_batch_size()},
          {"bytes", bytes},
          {"files", std::move(files)},
          {"validation", std::move(validation)}};
}

json ShardPlanJson(const ShardPlanProto& plan) {
  json ranges = json::array();
  const bool knows_bytes = plan.bytes_per_identity() > 0;
  for (int rank = 0; rank < plan.ranges_size(); ++rank) {
    const std::int64_t begin = plan.ranges(rank).begin();
    const std::int64_t size = plan.ranges(rank).end() - begin;
    ranges.push_back(
        {{"rank", rank},
         {"begin", begin},
         {"end", begin + size},
         {"size", size},
         {"share", plan.num_identities() > 0
                       ? static_cast<double>(size) / static_cast<double>(plan.num_identities())
                       : 0},
         {"bytes", knows_bytes ? json(size * plan.bytes_per_identity()) : json(nullptr)},
         {"node", nullptr},
         {"targets", nullptr}});
  }
  return {{"generation", plan.generation()},
          {"num_identities", plan.num_identities()},
          {"ranges", std::move(ranges)}};
}

// What is known of the ranks that hold the latest plan's ranges.
void AddRanks(const GetShardsReply& reply, json* plan) {
  json& ranges = (*plan)["ranges"];
  const auto size = static_cast<int>(ranges.size());
  for (int rank = 0; rank < size; ++rank) {
    json& range = ranges[static_cast<std::size_t>(rank)];
    // An attempt that has not asked for its plan yet may have another number of ranks.
    if (reply.rank_nodes_size() == size) range["node"] = reply.rank_nodes(rank);
    if (reply.rank_targets_size() == size) range["targets"] = reply.rank_targets(rank);
  }
}

json PlacementJson(const LaunchRecord& launch) {
  json nodes = json::array();
  for (const NodeSlots& slots : launch.slots()) nodes.push_back(MessageJson(slots));
  return nodes;
}

json YieldJson(const JobRecord& job) {
  return job.has_yield() ? MessageJson(job.yield()) : json(nullptr);
}

json TextsJson(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return std::vector<std::string>(texts.begin(), texts.end());
}

json FailuresJson(const NodeRecord& record) {
  json failures = json::array();
  for (const NodeFailure& failure : record.failures()) failures.push_back(MessageJson(failure));
  return failures;
}

// {"reason": ..., "since_ms": ...}; null where it is not so.
json MarkJson(bool is_set, const std::string& reason, std::int64_t since_ms) {
  return is_set ? json{{"reason", reason}, {"since_ms", since_ms}} : json(nullptr);
}

json GpusJson(const NodeStatus& node) {
  json gpus = json::array();
  for (const GpuDescription& gpu : node.gpu_list()) {
    gpus.push_back({{"model", gpu.model()}, {"memory_bytes", gpu.memory_bytes()}});
  }
  return gpus;
}

json NodeJson(const NodeStatus& node) {
  const NodeRecord& record = node.record();
  return {{"name", node.name()},
          {"liveness", NodeStatus::Liveness_Name(node.liveness())},
          {"liveness_reason", node.liveness_reason()},
          {"last_seen_ms", TimeJson(node.has_last_seen_ms(), node.last_seen_ms())},
          {"drained", MarkJson(record.drained(), record.drain_reason(), record.drained_ms())},
          {"cordoned", MarkJson(record.cordoned(), record.cordon_reason(), record.cordoned_ms())},
          {"failures", FailuresJson(record)},
          {"slots", node.slots()},
          {"slots_used", node.slots_used()},
          {"gpus", node.gpus()},
          {"gpus_used", node.gpus_used()},
          {"gpu_list", GpusJson(node)},
          {"cpus", node.cpus()},
          {"cpus_used", node.cpus_used()},
          {"memory_bytes", node.memory_bytes()},
          {"memory_reserved_bytes", node.memory_reserved_bytes()},
          {"labels", TextsJson(node.labels())},
          {"group", node.group()},
          {"job_ids", TextsJson(node.job_ids())}};
}

// Bytes at the end of `text` that begin a UTF-8 character without ending it.
std::size_t CutCharacterBytes(const std::string& text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;  // inside a character
    const std::size_t length = byte >= 0xF0U ? 4 : byte >= 0xE0U ? 3 : byte >= 0xC0U ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

json MessageJson(const Message& message) {
  json object = json::object();
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    json& value = object[field->name()];
    if (field->is_repeated()) {
      value = json::array();
      const int size = message.GetReflection()->FieldSize(message, field);
      for (int k = 0; k < size; ++k) value.push_back(ElementJson(message, field, k));
    } else if (IsKnown(message, field)) {
      value = SingularJson(message, field);
    }
  }
  return object;
}

std::vector<std::string> AccuracyMetricNames(const JobSpec& spec) {
  std::vector<std::string> names;
  for (const std::string& entry : spec.data().validation()) {
    names.push_back(AccuracyMetricName(entry));
  }
  return names;
}

std::vector<ValidationResult> LatestAccuracies(const JobSpec& spec, const GetMetricsReply& series) {
  std::vector<ValidationResult> results;
  for (const std::string& entry : spec.data().validation()) {
    const auto found = std::find_if(
        series.series().begin(), series.series().end(),
        [&](const MetricSeries& one) { return one.name() == AccuracyMetricName(entry); });
    if (found == series.series().end() || found->values().empty()) continue;
    ValidationResult& result = results.emplace_back();
    result.set_set(VerificationSetName(entry));
    result.set_step(*found->steps().rbegin());
    result.set_accuracy(*found->values().rbegin());
  }
  return results;
}

json JobSummaryJson(const JobRecord& job, const std::vector<ValidationResult>& latest) {
  const Resources& resources = job.spec().resources();
  return {{"id", job.id()},
          {"number", job.number()},
          {"name", job.spec().name()},
          {"state", JobState_Name(job.state())},
          {"reason", job.reason()},
          {"owner", job.owner()},
          {"priority", job.spec().priority()},
          {"workers", resources.workers()},
          {"min_workers", MinWorkers(resources)},
          {"workers_now", NumWorkers(job.launch())},
          {"queue_position", job.has_queue_position() ? json(job.queue_position()) : json(nullptr)},
          {"expected_start_ms", TimeJson(job.has_expected_start_ms(), job.expected_start_ms())},
          {"waiting_since_ms", TimeJson(WaitsForSlots(job.state()), job.waiting_since_ms())},
          {"yield", YieldJson(job)},
          {"submitted_ms", job.submitted_ms()},
          {"started_ms", TimeJson(job.has_started_ms(), job.started_ms())},
          {"ended_ms", TimeJson(job.has_ended_ms(), job.ended_ms())},
          {"attempt", job.attempt()},
          {"restarts", job.restarts()},
          {"preemptions", job.preemptions()},
          {"submitter", job.submitter()},
          {"progress", job.has_progress() ? MessageJson(job.progress()) : json(nullptr)},
          {"validation_sets", ValidationSetsJson(job.spec())},
          {"validation", AccuraciesJson(latest)}};
}

json JobJson(const JobRecord& job, const std::vector<Transition>& transitions,
             const std::vector<ValidationResult>& latest) {
  json object = JobSummaryJson(job, latest);
  object["spec"] = MessageJson(job.spec());
  object["yaml"] = job.yaml();
  object["run_dir"] = job.run_dir();
  object["placement"] = PlacementJson(job.launch());
  object["demand"] = MessageJson(job.demand());
  object["attempt_started_ms"] = TimeJson(job.has_attempt_started_ms(), job.attempt_started_ms());
  object["not_before_ms"] = TimeJson(job.has_not_before_ms(), job.not_before_ms());
  json& list = object["transitions"] = json::array();
  for (const Transition& transition : transitions) list.push_back(TransitionJson(transition));
  return object;
}

json MetricsJson(const GetMetricsReply& reply) {
  json series = json::array();
  for (const MetricSeries& one : reply.series()) series.push_back(MessageJson(one));
  return {{"series", std::move(series)}};
}

json CheckpointsJson(const ListCheckpointsReply& reply) {
  json checkpoints = json::array();
  for (const CheckpointManifest& manifest : reply.checkpoints()) {
    checkpoints.push_back(CheckpointJson(manifest));
  }
  return {{"checkpoints", std::move(checkpoints)}};
}

json JobsJson(const ListJobsReply& reply,
              const std::vector<std::vector<ValidationResult>>& latest) {
  json jobs = json::array();
  for (int i = 0; i < reply.jobs_size(); ++i) {
    jobs.push_back(JobSummaryJson(reply.jobs(i), latest[static_cast<std::size_t>(i)]));
  }
  json counts = json::object();
  for (const StateCount& count : reply.counts()) {
    counts[JobState_Name(count.state())] = count.jobs();
  }
  return {{"jobs", std::move(jobs)}, {"more", reply.more()}, {"counts", std::move(counts)}};
}

json ShardsJson(const GetShardsReply& reply) {
  json plans = json::array();
  for (const ShardPlanProto& plan : reply.plans()) plans.push_back(ShardPlanJson(plan));
  if (!plans.empty()) AddRanks(reply, &plans.back());
  return {{"plans", std::move(plans)}};
}

json NodesJson(const ListNodesReply& reply) {
  json nodes = json::array();
  for (const NodeStatus& node : reply.nodes()) nodes.push_back(NodeJson(node));
  return {{"nodes", std::move(nodes)}};
}

json UsersJson(const ListUsersReply& reply) {
  json users = json::array();
  for (const UserStatus& user : reply.users()) {
    users.push_back({{"name", user.name()},
                     {"jobs_running", user.jobs_running()},
                     {"jobs_waiting", user.jobs_waiting()},
                     {"workers", user.workers()},
                     {"max_jobs", user.max_jobs()},
                     {"max_workers", user.max_workers()},
                     {"share", user.share()},
                     {"slot_seconds", user.slot_seconds()}});
  }
  return {{"users", std::move(users)}};
}

json LogsJson(const GetLogsReply& reply) {
  const std::size_t cut = reply.job_ended() ? 0 : CutCharacterBytes(reply.text());
  return {{"attempt", reply.attempt()},
          {"text", reply.text().substr(0, reply.text().size() - cut)},
          {"next_offset", reply.next_offset() - static_cast<std::int64_t>(cut)},
          {"job_ended", reply.job_ended()}};
}

std::string DumpJson(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace fr
