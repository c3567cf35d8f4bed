// From an address of code to the line it was compiled from.
#pragma once
#include <cstdint>
#include <string>

namespace seqvae::emulation {

/// Where the program was loaded.
std::uintptr_t program_base();
/// True for memory that the program's files brought along: constants and static variables.
bool is_static(std::uintptr_t address);
/// file:line of the instruction before a return address, by addr2line; empty where unknown.
std::string line_of(std::uintptr_t return_address);
/// Name of the function that begins at an address; "kernel" where unknown.
std::string function_at(std::uintptr_t address);

}  // namespace seqvae::emulation
