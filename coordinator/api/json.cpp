#include "coordinator/api/json.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <nlohmann/json.hpp>

#include "common/config/job_config.h"

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
  for (int rank = 0; rank < plan.ranges_size(); ++rank) {
    const auto& range = plan.ranges(rank);
    ranges.push_back({{"rank", rank},
                      {"begin", range.begin()},
                      {"end", range.end()},
                      {"size", range.end() - range.begin()}});
  }
  return {{"generation", plan.generation()},
          {"num_identities", plan.num_identities()},
          {"ranges", std::move(ranges)}};
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
  return {{"id", job.id()},
          {"number", job.number()},
          {"name", job.spec().name()},
          {"state", JobState_Name(job.state())},
          {"reason", job.reason()},
          {"priority", job.spec().priority()},
          {"workers", job.spec().resources().workers()},
          {"submitted_ms", job.submitted_ms()},
          {"started_ms", TimeJson(job.has_started_ms(), job.started_ms())},
          {"ended_ms", TimeJson(job.has_ended_ms(), job.ended_ms())},
          {"attempt", job.attempt()},
          {"restarts", job.restarts()},
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

json ShardsJson(const GetShardsReply& reply) {
  json plans = json::array();
  for (const ShardPlanProto& plan : reply.plans()) plans.push_back(ShardPlanJson(plan));
  return {{"plans", std::move(plans)}};
}

json NodesJson(const ListNodesReply& reply) {
  json nodes = json::array();
  for (const NodeStatus& node : reply.nodes()) {
    nodes.push_back({{"name", node.name()},
                     {"slots", node.slots()},
                     {"slots_used", node.slots_used()},
                     {"job_ids", MessageJson(node)["job_ids"]}});
  }
  return {{"nodes", std::move(nodes)}};
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
