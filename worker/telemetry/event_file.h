#pragma once
// A run's figures for TensorBoard: `tensorboard --logdir <run>/tensorboard`, or, for all jobs of a
// coordinator, `tensorboard --logdir <state_dir>/jobs`.
//
// Format: TFRecord (tensorflow.org, "TFRecord and tf.train.Example"): for each record its length
// (uint64, little-endian), the masked CRC-32C of that, the bytes, the masked CRC-32C of these. The
// bytes are an Event of proto/tensorboard.proto.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/file.h"
#include "proto/metrics.pb.h"

namespace fr {

// One file, events.out.tfevents.<seconds>.<host>.<process>, for one start of a run. Files of
// earlier starts are left as they are. Nothing here throws: what cannot be written is missing in
// TensorBoard, a warning says so, and the next Add tries again.
class EventFile {
 public:
  // `first_step`: the first one that this start reports: 0, or the checkpoint's step and one more.
  // TensorBoard forgets what earlier files say of it and of later ones. Makes `directory`.
  EventFile(std::filesystem::path directory, std::int64_t first_step);

  // Scalars under the points' own names, times and steps; values are rounded to float, which is
  // what TensorBoard keeps. Handed to the operating system before it returns: a crash of this
  // process loses nothing.
  void Add(const std::vector<MetricPoint>& points);

 private:
  void Begin();
  void Append(const std::string& records);

  std::filesystem::path directory_;
  std::int64_t first_step_;
  std::filesystem::path path_;  // empty before the file is made
  FileDescriptor file_;
  std::int64_t whole_bytes_ = 0;  // of whole records: where the next ones go
  bool failing_ = false;
};

}  // namespace fr
