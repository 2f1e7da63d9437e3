#pragma once
// The coordinator's records as JSON: what the HTTP API answers and what `frctl -o json` prints.
// Numbers are numbers (int64 too), times are Unix milliseconds, what is not known is null.
// /api/v1/openapi.json is the schema; tests/e2e hold the two together. Pure.

#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include <nlohmann/json_fwd.hpp>

#include "proto/rpc.pb.h"

namespace fr {

// Any message, by its schema: every field under its name, an absent one with its default or, if it
// has none, null; absent messages with their defaults, too; enums by name. Not for `bytes`.
nlohmann::json MessageJson(const google::protobuf::Message& message);

// The latest accuracy of each of the job's validation sets that has been validated, in the job
// file's order: one MessageJson(ValidationResult) each, with set, step and accuracy. `series`
// holds the metrics that AccuracyMetricNames asks for.
std::vector<std::string> AccuracyMetricNames(const JobSpec& spec);
std::vector<ValidationResult> LatestAccuracies(const JobSpec& spec, const GetMetricsReply& series);

// A job without its spec: as in the list of jobs.
nlohmann::json JobSummaryJson(const JobRecord& job, const std::vector<ValidationResult>& latest);
// The whole of it: with spec (defaults filled in), the file as submitted, and transitions.
nlohmann::json JobJson(const JobRecord& job, const std::vector<Transition>& transitions,
                       const std::vector<ValidationResult>& latest);

// A page of jobs; latest[i] belongs to jobs(i).
nlohmann::json JobsJson(const ListJobsReply& reply,
                        const std::vector<std::vector<ValidationResult>>& latest);

nlohmann::json MetricsJson(const GetMetricsReply& reply);
nlohmann::json CheckpointsJson(const ListCheckpointsReply& reply);
nlohmann::json ShardsJson(const GetShardsReply& reply);
nlohmann::json NodesJson(const ListNodesReply& reply);
nlohmann::json UsersJson(const ListUsersReply& reply);
// Bytes that are no UTF-8 become U+FFFD; a character that the end of the reply cuts in two is left
// for the next one, by a smaller next_offset.
nlohmann::json LogsJson(const GetLogsReply& reply);

// Compact; text that is no UTF-8 does not throw but is replaced.
std::string DumpJson(const nlohmann::json& value, int indent = -1);

}  // namespace fr
