#pragma once
// A training set whose every image can be told by its grey value.

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/temporary_directory.h"
#include "worker/data/images/image.h"
#include "worker/data/records/record_set_writer.h"

namespace fr {

inline Image Grey(int height, int width, int value) {
  return {height, width,
          std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3),
                                    static_cast<std::uint8_t>(value))};
}

// Five identities of three images of 16 x 16 pixels; image k has grey value 16 k.
class GreySet {
 public:
  GreySet() {
    RecordSetWriter writer(path());
    for (int identity = 0; identity < 5; ++identity) {
      std::vector<std::string> images;
      for (int i = 0; i < 3; ++i) {
        images.push_back(EncodeJpeg(Grey(16, 16, 16 * (3 * identity + i)), 95));
      }
      writer.AddIdentity(images);
    }
    writer.Finish(16, 16);
  }

  std::filesystem::path directory() const { return directory_.path(); }
  std::filesystem::path path() const { return directory_.path() / "set"; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace fr
