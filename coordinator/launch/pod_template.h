#pragma once
// kubernetes.template_file, and how pod templates are laid over one another. Pure but for the file.

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace fr {

// A pod template (metadata.labels, metadata.annotations, spec) from YAML. Throws
// Error(kInvalidArgument) with every mistake as "FILE:LINE:COLUMN: what is wrong", a line each:
// broken YAML, keys that stand twice or that a pod template has not, sections and lists in each
// other's place. What lies deeper is the API server's to judge.
nlohmann::json ParsePodTemplate(std::string_view text, const std::string& file);

// ParsePodTemplate of a file. Throws also Error(kNotFound | kIo).
nlohmann::json ReadPodTemplate(const std::filesystem::path& file);

// `over` laid over `base`, as kubectl's strategic merge does: sections deeply; lists of sections by
// the key that names them (a volume mount's mountPath, else name), those of
// `over` first; of other lists and values, that of `over`. A null in `over` takes a key out.
nlohmann::json MergePodTemplates(const nlohmann::json& base, const nlohmann::json& over);

}  // namespace fr
