#include <fmt/format.h>
int main() { fmt::print("seqvae 0.1.0\n"); }
