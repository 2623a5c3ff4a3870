// Pieces of an HTML page. Every text is escaped here and nowhere else.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace reprise::client {

// For text and for attributes in double quotes. Characters that would turn the text around them
// are replaced.
std::string EscapeHtml(absl::string_view text);

// Three significant digits; whole numbers and those from 100 on whole, thousands apart; "–" unless
// finite.
std::string Digits(double value);
std::string Percent(double share);  // "12.3 %"

// Cells are texts; those of numbers are aligned to the right.
struct HtmlTable {
  std::string caption;
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::string note;  // below the caption, muted
};
std::string RenderTable(const HtmlTable& table);
std::string RenderCard(const HtmlTable& table);  // the table as a card of its own; "" without rows

// A chart with its table of numbers. `key` names it in the page's data; without a chart
// (`json` empty) the figure says so.
struct Figure {
  std::string key, title, formula, alternative;  // alternative: what it shows, for screen readers
  std::string json;
  HtmlTable numbers;
  bool wide = false;
  bool cumulative = false;  // it has a button between shares and sums
};
std::string RenderFigure(const Figure& figure);

struct Card {
  std::string name, value, more;
};
std::string RenderCards(const std::vector<Card>& cards);

// The whole page, with style, script and the charts' data in it: it loads nothing. Scripts run
// only if their digest is that of ours, so a text that got through as markup would stay inert.
struct Page {
  std::string title, subtitle;                              // texts
  std::string body;                                         // HTML
  std::vector<std::pair<std::string, std::string>> charts;  // key, JSON
};
std::string RenderPage(const Page& page);

}  // namespace reprise::client
