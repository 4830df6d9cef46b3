defmodule Pythonx.Requirements.Version do
  # Versions of Python packages and what is asked of them, as PEP 440 orders and matches them. uv decides what is installed:
  # this only tells whether what is there will do, and whether two wishes for a Python can meet.
  @moduledoc false

  @typedoc "What compares as the version does, by the order of terms."
  @type t :: tuple()

  @pattern ~r/\A\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d*))?(?:-(\d+)|[-_.]?(?:post|rev|r)[-_.]?(\d*))?((?:[-_.]?dev[-_.]?\d*)?)(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*\z/i

  @clause ~r/\A(===|==|~=|!=|<=|>=|<|>)\s*([^\s,]+)\z/

  @doc "The key of a version, or `:error` for what is none."
  @spec parse(String.t()) :: {:ok, t()} | :error
  def parse(text) do
    case Regex.run(@pattern, text) do
      [_all | parts] ->
        [epoch, release, pre, pre_number, post, post_word, dev, local] = pad(parts, 8)
        post? = post != "" or post_word != "" or post_named?(text)
        {:ok, key(number(epoch), release(release), pre, pre_number, post? && number(post <> post_word), dev, local)}

      nil ->
        :error
    end
  end

  # Optional groups at the end are left out of a match.
  defp pad(parts, size), do: parts ++ List.duplicate("", size - length(parts))

  # A post release may have no number.
  defp post_named?(text), do: text =~ ~r/[-_.]?(post|rev)/i

  defp number(""), do: 0
  defp number(digits), do: String.to_integer(digits)

  # 1.0 and 1.0.0 are one version.
  defp release(text) do
    text |> numbers() |> Enum.reverse() |> Enum.drop_while(&(&1 == 0)) |> Enum.reverse()
  end

  defp numbers(text), do: text |> String.split(".") |> Enum.map(&String.to_integer/1)

  # A development release comes before its alphas, these before the release, and that before its post releases.
  defp key(epoch, release, pre, pre_number, post, dev, local) do
    pre_key =
      cond do
        pre != "" -> {letter(String.downcase(pre)), number(pre_number)}
        post == false and dev != "" -> {0, 0}
        true -> {9, 0}
      end

    post_key = if post == false, do: -1, else: post
    dev_key = if dev == "", do: :final, else: dev |> String.replace(~r/\D/, "") |> number()
    {epoch, release, pre_key, post_key, dev_key, String.downcase(local)}
  end

  defp letter(name) when name in ["a", "alpha"], do: 1
  defp letter(name) when name in ["b", "beta"], do: 2
  defp letter(_candidate), do: 3

  @doc "The clauses of a specifier such as `>=3.1,<4`, or `:error`."
  @spec clauses(String.t()) :: {:ok, [{String.t(), String.t()}]} | :error
  def clauses(text) do
    parts = text |> String.split(",") |> Enum.map(&String.trim/1) |> Enum.reject(&(&1 == ""))
    clauses = Enum.map(parts, &clause/1)
    if Enum.member?(clauses, :error), do: :error, else: {:ok, clauses}
  end

  defp clause(text) do
    with [_all, operator, version] <- Regex.run(@clause, text),
         {:ok, _key} <- version |> String.replace_suffix(".*", "") |> parse() do
      {operator, version}
    else
      _no_clause -> :error
    end
  end

  @doc "Whether a version satisfies a specifier; `:error` when one of them cannot be read."
  @spec match?(String.t(), String.t()) :: boolean() | :error
  def match?(version, specifier) do
    with {:ok, key} <- parse(version), {:ok, clauses} <- clauses(specifier) do
      Enum.all?(clauses, fn {operator, wanted} -> satisfies?(operator, key, version, wanted) end)
    end
  end

  defp satisfies?("===", _key, version, wanted), do: version == wanted
  defp satisfies?("!=", key, version, wanted), do: not satisfies?("==", key, version, wanted)

  defp satisfies?("==", key, version, wanted) do
    if String.ends_with?(wanted, ".*") do
      prefix?(version, String.replace_suffix(wanted, ".*", ""))
    else
      {:ok, wanted_key} = parse(wanted)
      # A local version is one of the public version, unless it is asked for.
      if elem(wanted_key, 5) == "", do: public(key) == wanted_key, else: key == wanted_key
    end
  end

  defp satisfies?("~=", key, version, wanted) do
    [release] = Regex.run(~r/\A[v\d!]*(?:\.\d+)*/, wanted)
    prefix = release |> String.split(".") |> Enum.drop(-1) |> Enum.join(".")
    satisfies?(">=", key, version, wanted) and prefix?(version, prefix)
  end

  defp satisfies?(operator, key, _version, wanted) do
    {:ok, wanted_key} = parse(wanted)
    key = public(key)

    case operator do
      ">=" -> key >= wanted_key
      "<=" -> key <= wanted_key
      ">" -> key > wanted_key and not same_release_after?(key, wanted_key)
      "<" -> key < wanted_key and not same_release_before?(key, wanted_key)
    end
  end

  defp public(key), do: put_elem(key, 5, "")

  # `>1.0` leaves out the post releases of 1.0, `<1.0` its candidates.
  defp same_release_after?({epoch, release, _, post, _, _}, {epoch, release, _, -1, _, _}), do: post != -1
  defp same_release_after?(_key, _wanted), do: false

  defp same_release_before?({epoch, release, pre, _, dev, _}, {epoch, release, {9, 0}, -1, :final, _}),
    do: pre != {9, 0} or dev != :final

  defp same_release_before?(_key, _wanted), do: false

  defp prefix?(version, prefix) do
    with [_all, release] <- Regex.run(~r/\A\s*v?(?:\d+!)?(\d+(?:\.\d+)*)/, version) do
      wanted = numbers(prefix)
      padded = numbers(release) ++ List.duplicate(0, length(wanted))
      List.starts_with?(padded, wanted)
    else
      nil -> false
    end
  end
end
