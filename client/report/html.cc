#include "client/report/html.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/report/assets.h"
#include "core/base/digest.h"

namespace reprise::client {
namespace {

bool IsNumber(absl::string_view cell) {
  for (const absl::string_view sign : {"−", "+", "±", "≤ ", "≥ "}) {
    if (absl::StartsWith(cell, sign)) cell.remove_prefix(sign.size());
  }
  return cell == "–" || (!cell.empty() && absl::ascii_isdigit(cell[0]));
}

// Whether all cells of a column are numbers, a dash among others included.
bool IsNumeric(const HtmlTable& table, size_t column) {
  bool numeric = false;
  for (const auto& row : table.rows) {
    if (column >= row.size() || row[column].empty()) continue;
    if (!IsNumber(row[column])) return false;
    numeric = true;
  }
  return numeric;
}

absl::string_view CellClass(const std::string& cell, bool numeric) {
  if (cell == "met" || cell == "better") return " class=\"good\"";
  if (cell == "missed" || cell == "worse") return " class=\"bad\"";
  return numeric ? " class=\"n\"" : " class=\"text\"";
}

std::string ThousandsApart(int64_t value) {
  std::string text = absl::StrCat(value);
  for (int at = static_cast<int>(text.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    text.insert(static_cast<size_t>(at), 1, ',');
  }
  return text;
}

// As Content-Security-Policy names a script.
std::string ScriptDigest(absl::string_view script) {
  const Digest digest = Sha256({reinterpret_cast<const uint8_t*>(script.data()), script.size()});
  return absl::StrCat("'sha256-",
                      absl::Base64Escape(absl::string_view(
                          reinterpret_cast<const char*>(digest.data()), digest.size())),
                      "'");
}

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// U+202A to U+202E and U+2066 to U+2069 change the order in which text beside them is shown.
bool TurnsText(absl::string_view text) {
  if (text.size() < 3 || text[0] != '\xE2') return false;
  const auto last = static_cast<unsigned char>(text[2]);
  return (text[1] == '\x80' && last >= 0xAA && last <= 0xAE) ||
         (text[1] == '\x81' && last >= 0xA6 && last <= 0xA9);
}

std::string Data(const Page& page) {
  std::vector<std::string> charts;
  for (const auto& [key, json] : page.charts) {
    if (!json.empty()) charts.push_back(absl::StrCat("\"", key, "\":", json));
  }
  return absl::StrCat("{", absl::StrJoin(charts, ","), "}");
}

}  // namespace

std::string EscapeHtml(absl::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (TurnsText(text.substr(i))) {
      absl::StrAppend(&escaped, kReplacement);
      i += 2;
      continue;
    }
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        // HTML knows no control characters; a browser would drop or replace them.
        escaped +=
            absl::ascii_iscntrl(static_cast<unsigned char>(c)) && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return escaped;
}

std::string Digits(double value) {
  if (!std::isfinite(value) || std::abs(value) > 9e15) return "–";
  const std::string sign = value < 0 ? "−" : "";
  const double size = std::abs(value);
  if (size >= 99.95 || size == std::floor(size))
    return absl::StrCat(sign, ThousandsApart(std::llround(size)));
  const int decimals = std::max(0, 2 - static_cast<int>(std::floor(std::log10(size) + 1e-9)));
  return absl::StrCat(sign, absl::StrFormat("%.*f", std::min(decimals, 6), size));
}

std::string Percent(double share) {
  return std::isfinite(share) ? absl::StrCat(Digits(share * 100), " %") : "–";
}

std::string RenderTable(const HtmlTable& table) {
  // The caption stays where it is when a narrow screen scrolls the table.
  std::string html;
  if (!table.caption.empty()) {
    absl::StrAppend(&html, "<h3>", EscapeHtml(table.caption), "</h3>");
  }
  if (!table.note.empty()) {
    absl::StrAppend(&html, "<p class=\"formula\">", EscapeHtml(table.note), "</p>");
  }
  absl::StrAppend(&html, "<div class=\"scroll\" tabindex=\"0\"><table aria-label=\"",
                  EscapeHtml(table.caption.empty() ? "Numbers" : table.caption), "\">");
  absl::StrAppend(&html, "<thead><tr>");
  for (size_t i = 0; i < table.head.size(); ++i) {
    absl::StrAppend(&html, "<th scope=\"col\"", i > 0 && IsNumeric(table, i) ? " class=\"n\"" : "",
                    ">", EscapeHtml(table.head[i]), "</th>");
  }
  absl::StrAppend(&html, "</tr></thead><tbody>");
  for (const auto& row : table.rows) {
    absl::StrAppend(&html, "<tr>");
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string cell = EscapeHtml(row[i]);
      if (i == 0) {
        absl::StrAppend(&html, "<th scope=\"row\">", cell, "</th>");
      } else {
        absl::StrAppend(&html, "<td", CellClass(row[i], IsNumeric(table, i)), ">", cell, "</td>");
      }
    }
    absl::StrAppend(&html, "</tr>");
  }
  return html + "</tbody></table></div>";
}

std::string RenderCard(const HtmlTable& table) {
  if (table.rows.empty()) return "";
  return absl::StrCat("<div class=\"card\">", RenderTable(table), "</div>\n");
}

std::string RenderFigure(const Figure& figure) {
  std::string html = absl::StrCat("<figure", figure.wide ? " class=\"wide\"" : "");
  if (!figure.json.empty()) absl::StrAppend(&html, " data-chart=\"", EscapeHtml(figure.key), "\"");
  absl::StrAppend(&html, "><div class=\"head\"><h3>", EscapeHtml(figure.title), "</h3>");
  if (figure.cumulative && !figure.json.empty()) {
    absl::StrAppend(&html,
                    "<button type=\"button\" data-cumulative aria-pressed=\"false\" "
                    "hidden>Cumulative</button>");
  }
  absl::StrAppend(&html, "</div><figcaption>", EscapeHtml(figure.formula), "</figcaption>");
  if (figure.json.empty()) {
    absl::StrAppend(&html, "<p class=\"none\">This run has no such requests.</p>");
  } else {
    absl::StrAppend(&html, "<div class=\"plot\" role=\"img\" aria-label=\"",
                    EscapeHtml(figure.alternative), "\"></div>");
  }
  if (!figure.numbers.rows.empty()) {
    absl::StrAppend(&html, "<details><summary>Numbers</summary>", RenderTable(figure.numbers),
                    "</details>");
  }
  return html + "</figure>\n";
}

std::string RenderCards(const std::vector<Card>& cards) {
  std::string html = "<dl class=\"cards\">";
  for (const Card& card : cards) {
    absl::StrAppend(&html, "<div><dt>", EscapeHtml(card.name), "</dt><dd>", EscapeHtml(card.value),
                    "</dd><dd class=\"more\">", EscapeHtml(card.more), "</dd></div>");
  }
  return html + "</dl>\n";
}

std::string RenderPage(const Page& page) {
  const ReportAssets assets = GetReportAssets();
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src "
      "'unsafe-inline'; script-src ",
      ScriptDigest(assets.library), " ", ScriptDigest(assets.script),
      "; base-uri 'none'; form-action 'none'\">\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      EscapeHtml(page.title), "</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>",
      assets.library_style, "</style>\n<style>", assets.style, "</style></head><body>\n",
      "<header><div><h1>", EscapeHtml(page.title), "</h1><p class=\"muted\">",
      EscapeHtml(page.subtitle),
      "</p></div><button type=\"button\" id=\"theme\" hidden>Light or dark</button></header>\n",
      "<main>\n", page.body,
      "</main>\n<footer><details><summary>Charts by uPlot, MIT "
      "licence</summary><pre>",
      EscapeHtml(assets.library_license),
      "</pre></details></footer>\n<script type=\"application/json\" id=\"data\">", Data(page),
      "</script>\n<script>", assets.library, "</script>\n<script>", assets.script,
      "</script>\n</body></html>\n");
}

}  // namespace reprise::client
