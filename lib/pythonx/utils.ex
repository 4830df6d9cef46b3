defmodule Pythonx.Utils do
  # Fetches over HTTP with what OTP brings along: proxies, certificates of the operating system, both IP families.
  @moduledoc false

  require Logger

  @client :pythonx
  @connect_timeout_ms 30_000
  # For a whole answer. A stalled connection must end some day, a slow one may take its time.
  @timeout_ms 600_000
  # What the first IP family answers on a machine that only has the other one.
  @unreachable [:nxdomain, :ehostunreach, :enetunreach, :eaddrnotavail, :eafnosupport]

  # Whoever serves files may send long headers, such as policies for browsers: by default OTP takes 10 KiB. Old releases of it
  # take any, and complain of an option that they do not know, so it is given where the default was not enough.
  @max_header_size 1_048_576

  @doc "The body of a successful GET. Raises a `RuntimeError` for anything else."
  @spec fetch_body!(String.t()) :: binary()
  def fetch_body!(url) do
    case fetch_body(url) do
      {:ok, body} -> body
      {:error, reason} -> raise "failed to fetch #{url}, error: #{inspect(reason)}"
    end
  end

  @spec fetch_body(String.t()) :: {:ok, binary()} | {:error, term()}
  defp fetch_body(url) do
    {:ok, _apps} = Application.ensure_all_started([:inets, :ssl])

    with {:error, {:failed_connect, info} = reason} <- get(url, :inet) do
      if unreachable?(info), do: get(url, :inet6), else: {:error, reason}
    end
  end

  # One at a time, because they share a client.
  defp get(url, ip_family) do
    :global.trans({__MODULE__, self()}, fn -> with_client(&get(&1, url, ip_family)) end, [node()])
  end

  # A client of our own: the options of the default one belong to the application that we are part of. Its name must be
  # registered (not `:stand_alone`) or redirections get lost, and it must be new, because a proxy cannot be unset.
  defp with_client(fun) do
    :inets.stop(:httpc, @client)
    {:ok, _pid} = :inets.start(:httpc, profile: @client)

    try do
      fun.(@client)
    after
      :inets.stop(:httpc, @client)
    end
  end

  defp get(client, url, ip_family) do
    set_proxy(client, url)
    :ok = :httpc.set_options([ipfamily: ip_family], client)
    request = {String.to_charlist(url), [{~c"user-agent", ~c"pythonx"}]}

    case request(request, http_options(url), client) do
      {:ok, {{_version, 200, _phrase}, _headers, body}} -> {:ok, body}
      {:ok, {{_version, status, _phrase}, _headers, _body}} -> {:error, {:status, status}}
      {:error, reason} -> {:error, reason}
    end
  end

  defp unreachable?(info) do
    Enum.any?(info, &match?({_family, _options, reason} when reason in @unreachable, &1))
  end

  defp request(request, http_options, client) do
    with {:error, {:header_too_long, _limit}} <-
           :httpc.request(:get, request, http_options, [body_format: :binary], client) do
      options = [body_format: :binary, max_header_size: @max_header_size]
      :httpc.request(:get, request, http_options, options, client)
    end
  end

  defp http_options(url) do
    [connect_timeout: @connect_timeout_ms, timeout: @timeout_ms] ++ ssl_options(url) ++ proxy_auth(url)
  end

  defp ssl_options("https:" <> _rest) do
    [
      ssl:
        [
          verify: :verify_peer,
          depth: 10,
          customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
        ] ++ certificates()
    ]
  end

  # httpc wants them for the redirection of a plain request as well.
  defp ssl_options(_url), do: ssl_options("https:")

  # SSL_CERT_FILE is where OpenSSL, curl and uv look first, and where companies put the certificate of their proxy.
  defp certificates do
    case System.get_env("SSL_CERT_FILE", "") do
      "" -> [cacerts: system_certificates()]
      path -> [cacertfile: path]
    end
  end

  defp system_certificates do
    :public_key.cacerts_get()
  catch
    _kind, _reason ->
      raise "no CA certificates were found on this system: install the package ca-certificates, or set SSL_CERT_FILE"
  end

  defp set_proxy(client, url) do
    with {scheme, proxy} <- proxy(url) do
      Logger.debug("Using #{scheme} proxy: #{URI.to_string(%{proxy | userinfo: nil})}")
      address = {{String.to_charlist(proxy.host), proxy.port || 80}, no_proxy()}
      :ok = :httpc.set_options([{if(scheme == "HTTPS", do: :https_proxy, else: :proxy), address}], client)
    end
  end

  defp proxy_auth(url) do
    with {_scheme, %URI{userinfo: userinfo}} when is_binary(userinfo) <- proxy(url),
         [user, password] <- String.split(userinfo, ":", parts: 2) do
      [proxy_auth: {charlist_of_encoded(user), charlist_of_encoded(password)}]
    else
      _other -> []
    end
  end

  defp charlist_of_encoded(text), do: text |> URI.decode() |> String.to_charlist()

  # The scheme of the URL, and the proxy for it, if there is one.
  defp proxy(url) do
    scheme = URI.parse(url).scheme |> to_string() |> String.upcase()

    case env_of_either_case(scheme <> "_PROXY") do
      nil -> nil
      value -> with(%URI{host: host} = uri when is_binary(host) <- parse_proxy(value), do: {scheme, uri})
    end
  end

  # Both http://host:3128 and host:3128 are in use.
  defp parse_proxy(value), do: if(value =~ "://", do: URI.parse(value), else: URI.parse("http://" <> value))

  defp no_proxy do
    (env_of_either_case("NO_PROXY") || "")
    |> String.split([",", " "], trim: true)
    |> Enum.map(fn domain ->
      String.to_charlist(if String.starts_with?(domain, "."), do: "*" <> domain, else: domain)
    end)
  end

  defp env_of_either_case(name) do
    Enum.find(Enum.map([name, String.downcase(name)], &System.get_env/1), &(&1 not in [nil, ""]))
  end
end
