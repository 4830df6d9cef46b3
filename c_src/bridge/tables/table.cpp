#include "tables/table.hpp"

#include <algorithm>
#include <atomic>
#include <set>

namespace pythonx {
namespace {

std::atomic<std::size_t> live{0};

// Appends the rows [from, to) of a column, counted over all of its chunks.
void append_rows(const Column& column, std::int64_t from, std::int64_t to, std::vector<Chunk>& out) {
  std::int64_t start = 0;
  for (const Chunk& chunk : column.chunks) {
    const std::int64_t first = std::max(from, start);
    const std::int64_t last = std::min(to, start + chunk.length);
    if (first < last) out.push_back({chunk.array, chunk.offset + first - start, last - first});
    start += chunk.length;
  }
}

}  // namespace

std::size_t live_arrays() { return live.load(std::memory_order_relaxed); }

void count_array(int difference) {
  live.fetch_add(static_cast<std::size_t>(difference), std::memory_order_relaxed);
}

TablePtr part_of(const Table& table, const std::vector<std::size_t>& columns, std::int64_t offset,
                 std::int64_t length) {
  auto part = std::make_shared<Table>();
  part->metadata = columns.size() == table.columns.size() ? table.metadata : "";
  part->rows = length;
  for (const std::size_t index : columns) {
    part->columns.push_back({table.columns[index].type, {}});
    append_rows(table.columns[index], offset, offset + length, part->columns.back().chunks);
  }
  std::int64_t start = 0;
  for (const std::int64_t batch : table.batches) {
    const std::int64_t rows = std::min(offset + length, start + batch) - std::max(offset, start);
    if (rows > 0) part->batches.push_back(rows);
    start += batch;
  }
  return part;
}

void align_batches(Table& table) {
  std::set<std::int64_t> ends;
  for (const Column& column : table.columns) {
    std::int64_t end = 0;
    for (const Chunk& chunk : column.chunks) ends.insert(end += chunk.length);
  }
  ends.erase(0);
  table.rows = ends.empty() ? 0 : *ends.rbegin();
  for (Column& column : table.columns) {
    std::vector<Chunk> chunks;
    std::int64_t start = 0;
    for (const std::int64_t end : ends) {
      append_rows(column, start, end, chunks);
      start = end;
    }
    column.chunks = std::move(chunks);
  }
  std::int64_t start = 0;
  for (const std::int64_t end : ends) {
    table.batches.push_back(end - start);
    start = end;
  }
}

}  // namespace pythonx
