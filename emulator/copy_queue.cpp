#include "emulator/copy_queue.h"

#include <algorithm>

#include "emulator/block.h"

namespace quire::emulator {

void CopyQueue::clear() {
  copies_.clear();
  group_ends_.clear();
  num_dropped_ = num_taken_ = num_landed_ = 0;
}

void CopyQueue::drop_taken() {
  if (num_taken_ < num_pushed()) return;
  num_dropped_ = num_taken_;
  copies_.clear();
}

bool CopyQueue::take(int pending_groups, PendingCopy& copy) {
  while (group_ends_.size() - num_landed_ > static_cast<std::size_t>(pending_groups)) {
    if (num_taken_ < group_ends_[num_landed_]) {
      copy = copies_[num_taken_++ - num_dropped_];
      return true;
    }
    ++num_landed_;
  }
  drop_taken();
  return false;
}

bool CopyQueue::take_of_first(std::size_t end, PendingCopy& copy) {
  if (num_taken_ < end) {
    copy = copies_[num_taken_++ - num_dropped_];
    return true;
  }
  drop_taken();
  return false;
}

void StoreQueue::clear() {
  boxes_.clear();
  num_committed_ = box_ = 0;
  row_ = byte_ = 0;
}

bool StoreQueue::take(StorePiece& piece) {
  constexpr int kPieceBytes = 16;
  while (box_ < num_committed_) {
    const BoxPlace& box = boxes_[box_];
    int skipped_bytes, bytes;
    u8* row = box.tensor_row(row_, skipped_bytes, bytes);
    const int begin = std::max(byte_, skipped_bytes);
    const int end = std::min(byte_ + kPieceBytes, skipped_bytes + bytes);
    const int at_row = row_, shift = begin - byte_;
    const std::size_t offset = box.shared_offset(at_row, byte_);
    byte_ += kPieceBytes;
    if (byte_ == box.row_bytes()) {
      byte_ = 0;
      if (++row_ == box.rows()) {
        row_ = 0;
        ++box_;
      }
    }
    if (begin >= end) continue;
    piece = {Block::instance().shared_memory() + offset, row + (begin - skipped_bytes), shift,
             end - begin};
    return true;
  }
  if (num_committed_ == boxes_.size()) clear();
  return false;
}

}  // namespace quire::emulator
