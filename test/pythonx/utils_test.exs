defmodule Pythonx.UtilsTest do
  use Pythonx.UvCase, async: false

  import ExUnit.CaptureLog

  alias Pythonx.Utils

  @proxies ~w(HTTP_PROXY http_proxy HTTPS_PROXY https_proxy NO_PROXY no_proxy SSL_CERT_FILE)

  setup do
    saved = for name <- @proxies, do: {name, System.get_env(name)}
    for name <- @proxies, do: System.delete_env(name)
    on_exit(fn -> System.put_env(saved) end)
  end

  test "the body, asked for by pythonx" do
    url = serve!([ok(<<0, 255, "body">>)])
    assert Utils.fetch_body!(url <> "/path?query") == <<0, 255, "body">>
    assert_received {:request, "GET /path?query HTTP/1.1\r\n" <> headers}
    assert headers =~ ~r/^user-agent: pythonx\r$/m
  end

  test "another status, a truncated body, nobody there, no URL" do
    url = serve!([status("404 Not Found"), fn _ -> "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort" end])
    assert_raise RuntimeError, "failed to fetch #{url}, error: {:status, 404}", fn -> Utils.fetch_body!(url) end

    error = assert_raise RuntimeError, fn -> Utils.fetch_body!(url) end
    assert error.message =~ "failed to fetch #{url}, error: "

    error = assert_raise RuntimeError, fn -> Utils.fetch_body!("http://127.0.0.1:1") end
    assert error.message =~ "failed to fetch http://127.0.0.1:1, error: {:failed_connect, "
    assert error.message =~ ":econnrefused"

    assert_raise RuntimeError, "failed to fetch nonsense, error: {:no_scheme}", fn -> Utils.fetch_body!("nonsense") end
  end

  test "headers of any size that a server may send, and not without end" do
    headers = fn size ->
      "HTTP/1.1 200 OK\r\nx-policy: #{String.duplicate("x", size)}\r\ncontent-length: 4\r\n\r\nbody"
    end

    # What is too long for OTP's default is asked for once more.
    url = serve!(for size <- [500_000, 500_000, 2_000_000, 2_000_000], do: fn _ -> headers.(size) end)
    assert Utils.fetch_body!(url) == "body"

    error = assert_raise RuntimeError, fn -> Utils.fetch_body!(url) end
    assert error.message =~ "failed to fetch #{url}, error: {:header_too_long, "
  end

  test "follows redirections" do
    target = serve!([ok("there")])

    url =
      serve!([
        fn _ -> "HTTP/1.1 302 Found\r\nlocation: #{target}/x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" end
      ])

    assert Utils.fetch_body!(url) == "there"
  end

  test "through the proxy for the scheme, with its password, which is not logged" do
    proxy = serve!([ok("by proxy"), ok("by proxy")])
    System.put_env("http_proxy", String.replace(proxy, "//", "//us%40er:pass@"))

    log = capture_log(fn -> assert Utils.fetch_body!("http://host.invalid/x") == "by proxy" end)
    assert log =~ "Using HTTP proxy: #{proxy}"
    refute log =~ "pass@"
    assert_received {:request, "GET http://host.invalid/x HTTP/1.1\r\n" <> headers}
    assert headers =~ "proxy-authorization: Basic #{Base.encode64("us@er:pass")}"

    System.put_env("HTTP_PROXY", String.trim_leading(proxy, "http://"))
    assert Utils.fetch_body!("http://host.invalid/x") == "by proxy"
  end

  test "not through the proxy of another scheme, nor for a host in NO_PROXY" do
    System.put_env(%{
      "HTTPS_PROXY" => "http://127.0.0.1:1",
      "HTTP_PROXY" => "http://127.0.0.1:1",
      "NO_PROXY" => "127.0.0.1"
    })

    assert Utils.fetch_body!(serve!([ok("direct")])) == "direct"
    System.delete_env("HTTP_PROXY")
    System.delete_env("NO_PROXY")
    assert Utils.fetch_body!(serve!([ok("direct")])) == "direct"
  end

  test "checks whom it talks to: a server whose certificate nobody vouches for" do
    %{server_config: config} =
      :public_key.pkix_test_data(%{
        server_chain: %{root: [key: {:rsa, 2048, 65537}], intermediates: [], peer: [key: {:rsa, 2048, 65537}]},
        client_chain: %{root: [key: {:rsa, 2048, 65537}], intermediates: [], peer: [key: {:rsa, 2048, 65537}]}
      })

    {:ok, _apps} = Application.ensure_all_started(:ssl)
    {:ok, listener} = :ssl.listen(0, [ip: {127, 0, 0, 1}, reuseaddr: true, log_level: :none] ++ config)
    {:ok, {_ip, port}} = :ssl.sockname(listener)

    server =
      Task.async(fn ->
        {:ok, socket} = :ssl.transport_accept(listener)
        :ssl.handshake(socket, 5000)
      end)

    log =
      capture_log(fn ->
        error = assert_raise RuntimeError, fn -> Utils.fetch_body!("https://127.0.0.1:#{port}/") end
        assert error.message =~ "failed to fetch https://127.0.0.1:#{port}/, error: {:failed_connect, "
        assert error.message =~ "unknown_ca"
      end)

    assert is_binary(log)
    assert {:error, _reason} = Task.await(server, 60_000)
  end

  test "a file of certificates that is not there" do
    System.put_env("SSL_CERT_FILE", "/nowhere/ca.pem")
    error = assert_raise RuntimeError, fn -> Utils.fetch_body!("https://127.0.0.1:1/") end
    assert error.message =~ "failed to fetch https://127.0.0.1:1/, error: "
  end
end
