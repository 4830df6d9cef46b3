defmodule Pythonx.Module.Documentation do
  @moduledoc false

  # Python's documentation as `h` and ExDoc show it: the docstring as it is, below the signature. Docstrings are plain text,
  # so what begins with a prompt is indented, which makes it code.

  @doc "The documentation of a module."
  @spec of_module(map()) :: String.t()
  def of_module(description) do
    text = text(description["doc"])
    head = "The Python module `#{description["name"]}`."
    if text == "", do: head, else: head <> "\n\n" <> text
  end

  @doc "The documentation of a class."
  @spec of_class(map(), String.t()) :: String.t()
  def of_class(class, module) do
    what = if class["kind"] == "dataclass", do: "The dataclass", else: "The Python class"
    String.trim_trailing("#{what} `#{module}.#{class["name"]}`.\n\n" <> text(class["doc"]))
  end

  @doc "The documentation of a function, which `title` names in full."
  @spec of_function(map(), String.t()) :: String.t()
  def of_function(function, title) do
    signature = "`#{title}(#{parameters(function["params"])})`"

    [signature, text(function["doc"]), note(function["kind"])]
    |> Enum.reject(&(&1 == ""))
    |> Enum.join("\n\n")
  end

  @doc "The documentation of a property."
  @spec of_property(map(), String.t()) :: String.t()
  def of_property(method, title), do: String.trim_trailing("`#{title}`\n\n" <> text(method["doc"]))

  defp note(kind) when kind in ["generator", "async_generator"], do: "Returns a stream."
  defp note("coroutine"), do: "Waits for the coroutine."
  defp note(_function), do: ""

  defp parameters(nil), do: "..."

  defp parameters(params) do
    only = Enum.count(params, &(&1["kind"] == "positional_only"))
    texts = Enum.map(params, &parameter/1)
    texts = if only > 0, do: List.insert_at(texts, only, "/"), else: texts
    star = Enum.find_index(params, &(&1["kind"] == "keyword_only"))
    star? = star && not Enum.any?(params, &(&1["kind"] == "var_positional"))
    texts = if star?, do: List.insert_at(texts, star + if(only > 0, do: 1, else: 0), "*"), else: texts
    Enum.join(texts, ", ")
  end

  defp parameter(%{"kind" => "var_positional", "name" => name}), do: "*" <> name
  defp parameter(%{"kind" => "var_keyword", "name" => name}), do: "**" <> name
  defp parameter(%{"default" => nil, "name" => name}), do: name
  defp parameter(%{"default" => default, "name" => name}), do: "#{name}=#{default |> List.last() |> one_line()}"

  # A backtick would end the code that the signature is.
  defp one_line(text), do: text |> String.replace(["\n", "\r", "`"], " ") |> String.slice(0, 80)

  defp text(nil), do: ""

  defp text(doc) do
    doc
    |> String.split("\n")
    |> Enum.chunk_by(&(String.trim(&1) == ""))
    |> Enum.map_join("\n", &paragraph/1)
    |> String.trim()
  end

  defp paragraph([first | _] = lines) do
    example? = String.trim_leading(first) |> String.starts_with?(">>>")
    Enum.map_join(lines, "\n", &if(example? and String.trim(&1) != "", do: "    " <> &1, else: &1))
  end
end
