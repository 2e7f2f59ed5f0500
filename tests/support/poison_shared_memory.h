// What an unrelated kernel may leave behind: NaN patterns in the shared memory of a GPU.
#pragma once

namespace quire::test {

// Fills the shared memory of every multiprocessor, ordered on the default stream. Does nothing on
// the CPU, and on the emulator, whose shared memory starts like that in every block.
void poison_shared_memory();

}  // namespace quire::test
